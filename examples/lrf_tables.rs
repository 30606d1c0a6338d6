//! What `lrf` does to real networks: measures it, and writes the tables of `benches/LRF.md`.
//!
//!     cargo run --release --example lrf_tables
//!     cargo run --release --example lrf_tables -- --only 0.2/resnet20
//!
//! See `tables/mod.rs`.

mod tables;

use tables::{FEW, File, MANY, Result, Row, Table};

fn main() -> Result<()> {
    tables::run(File {
        program: "lrf_tables",
        path: "benches/LRF.md",
        title: "What `lrf` does to ResNet-20 and ResNet-56",
        tables: plan(),
    })
}

/// What is measured.
fn plan() -> Vec<Table> {
    let mut tables: Vec<Table> = [("0.15", 0.15), ("0.2", 0.2), ("0.3", 0.3)]
        .map(|(name, ratio)| without_data(name, ratio))
        .into();
    tables.push(with_images());
    tables.push(counts());
    tables
}

fn row(options: &str, like: f64, samples: Option<(&'static str, usize)>) -> Row {
    Row {
        label: match samples {
            None => format!("`{}`", options.replace("KEPT", "F")),
            Some((_, count)) => format!("`{}`, {count} images", options.replace("KEPT", "F")),
        },
        pipeline: format!("lrf{{{options}}}"),
        like: format!("lrf{{ratio={like}}}"),
        samples,
        prototype: [None; 2],
    }
}

fn without_data(name: &'static str, ratio: f64) -> Table {
    let same = |options: &str| row(&format!("ratio={ratio}{options}"), ratio, None);
    let uneven = |options: &str| row(&format!("flops=KEPT{options}"), ratio, None);
    Table {
        name,
        title: format!("Without data, at p = {ratio}"),
        note: "First the paper's method, then without compensation, then what else may be chosen by; `F` is what the first keeps.",
        column: "options of `lrf`",
        rows: vec![
            same(""),
            same(",compensate=false"),
            same(",select=norm"),
            same(",select=norm,compensate=false"),
            same(",select=forward"),
            same(",select=pivot"),
            same(",weigh=norm"),
            same(",weigh=moments"),
            uneven(""),
            uneven(",weigh=none"),
            uneven(",select=forward"),
            uneven(",select=pivot"),
            uneven(",sides=output"),
            uneven(",sides=input"),
            uneven(",compensate=false"),
        ],
    }
}

fn with_images() -> Table {
    let few = Some((FEW, 400));
    let mut rows = Vec::new();
    for (ratio, prototype) in [(0.3, 78.9), (0.4, 66.6), (0.5, f64::NAN)] {
        let first = row(&format!("ratio={ratio}"), ratio, few);
        let known = prototype.is_finite().then_some(prototype);
        rows.push(Row {
            prototype: [known, None],
            ..first
        });
        rows.push(row(&format!("ratio={ratio},refit=false"), ratio, few));
        for options in ["", ",sides=output", ",sides=input"] {
            let mut uneven = row(&format!("flops=KEPT{options}"), ratio, few);
            uneven.label = format!("{}, as p = {ratio}", uneven.label);
            rows.push(uneven);
        }
    }
    Table {
        name: "images",
        title: "With 400 training images, without their labels".into(),
        note: "`F` is what the paper's method keeps at that p.",
        column: "options of `lrf`",
        rows,
    }
}

fn counts() -> Table {
    let drawn = |count: usize| {
        let from = if count > 400 { MANY } else { FEW };
        row("flops=0.6", 0.3, Some((from, count)))
    };
    Table {
        name: "count",
        title: "With more and fewer images".into(),
        note: "One draw each.",
        column: "options of `lrf`",
        rows: vec![drawn(50), drawn(100), drawn(400), drawn(1600)],
    }
}
