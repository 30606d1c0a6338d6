//! What `red` does to real networks: measures it, and writes the tables of `benches/RED.md`.
//!
//!     cargo run --release --example red_tables
//!     cargo run --release --example red_tables -- --only samples/resnet20
//!
//! See `tables/mod.rs`.

mod tables;

use tables::{FEW, File, MANY, Result, Row, Table};

fn main() -> Result<()> {
    tables::run(File {
        program: "red_tables",
        path: "benches/RED.md",
        title: "What `red` does to ResNet-20 and ResNet-56",
        tables: plan(),
    })
}

/// What is measured.
fn plan() -> Vec<Table> {
    let by_kernel = |macs: f64| format!("red{{hash=kernel,flops={macs}}}");
    let keep = |macs: f64, samples, prototype| Row {
        label: format!("{macs}"),
        pipeline: by_kernel(macs),
        like: String::new(),
        samples,
        prototype,
    };
    let few = Some((FEW, 400));
    let drawn = |count: usize, prototype: Option<f64>| Row {
        label: format!("{count}"),
        pipeline: by_kernel(0.5),
        like: String::new(),
        samples: Some((if count > 400 { MANY } else { FEW }, count)),
        prototype: [prototype, None],
    };
    let variant = |options: &str, samples: Option<(&'static str, usize)>| Row {
        label: match samples {
            None => format!("`{options}`"),
            Some((_, count)) => format!("`{options}`, {count} images"),
        },
        pipeline: format!("red{{{options}}}"),
        like: String::new(),
        samples,
        prototype: [None; 2],
    };
    let data_free = [
        (0.8, 91.4, 92.1),
        (0.7, 91.2, 90.9),
        (0.6, 89.2, 88.1),
        (0.5, 80.4, 83.2),
        (0.4, 63.1, 68.2),
    ];
    let sampled = [
        (0.7, Some(92.27), None),
        (0.6, Some(91.85), None),
        (0.5, Some(92.06), Some(92.06)),
        (0.4, Some(90.02), None),
        (0.35, None, Some(91.85)),
        (0.3, Some(88.09), None),
    ];
    vec![
        Table {
            name: "data-free",
            title: "Without data".into(),
            note: "`red{hash=kernel,flops=F}`: batch norms say what a layer reads.",
            column: "F",
            rows: data_free
                .map(|(f, a, b)| keep(f, None, [Some(a), Some(b)]))
                .into(),
        },
        Table {
            name: "samples",
            title: "With 400 training images, without their labels".into(),
            note: "`red{hash=kernel,flops=F}` with `--data`.",
            column: "F",
            rows: sampled.map(|(f, a, b)| keep(f, few, [a, b])).into(),
        },
        Table {
            name: "count",
            title: "With more and fewer images".into(),
            note: "`red{hash=kernel,flops=0.5}` with `--data` and `--samples`; one draw each.",
            column: "images",
            rows: vec![
                drawn(50, Some(91.74)),
                drawn(100, Some(92.27)),
                drawn(400, Some(92.06)),
                drawn(1600, None),
            ],
        },
        Table {
            name: "options",
            title: "What each option does".into(),
            note: "At F = 0.5 where there is a target.",
            column: "options of `red`",
            rows: vec![
                variant("hash=none", None),
                variant("hash=kde", None),
                variant("hash=none,alpha=0.1", None),
                variant("hash=none,alpha=0.1", few),
                variant("hash=none,alpha=0.2", few),
                variant("hash=kernel,flops=0.5", None),
                variant("hash=kernel,flops=0.5,align=4", None),
                variant("hash=kernel,flops=0.5,align=8", None),
                variant("hash=kernel,flops=0.5,refit=false", few),
                variant("hash=kernel,flops=0.5", few),
                variant("hash=kernel,flops=0.5,alpha=0.1", few),
                variant("hash=kernel,flops=0.5,align=4", few),
                variant("hash=kernel,flops=0.5,align=8", few),
            ],
        },
    ]
}
