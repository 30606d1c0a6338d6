//! The curve as a table.

use comfy_table::Table;
use optc::judge::Verdict;
use optc::report::{Stats, grouped, numbers};

use super::curve::{Curve, CurvePoint};

/// What each budget leaves, as shares of the model's own, then what each layer becomes under it.
pub fn table(curve: &Curve) -> String {
    let mut text = format!("{}\n\n", heading(curve));
    if curve.points.is_empty() {
        return text + "nothing that is offered saves anything\n";
    }
    text += &format!("{}\n\n", shares(curve).trim_fmt());
    text += &format!("{}\n\n", layers(curve).trim_fmt());
    text += &format!("budgets are of what the layers cost in {}\n", curve.cost);
    text += &match (curve.held_out, curve.samples) {
        (_, 0) => "no samples: the change of the outputs is a forecast by moments; --data says how many answers stay\n".to_string(),
        (0, n) => format!("answers: on {n} samples, which are those that are fitted to, too\n"),
        (held_out, n) => format!("answers: on {held_out} samples that were held out, and on some of the {n} that are fitted to, whichever stay less\n"),
    };
    if let Some(timing) = &curve.timing {
        text += &format!("time: {timing}\n");
    }
    if let Some(why) = &curve.not_measured {
        text += &format!("time: not measured: {why}\n");
    }
    match &curve.judge {
        Some(Verdict::Judged(judgement)) => text += &format!("judge: {judgement}\n"),
        Some(Verdict::NotJudged { not_judged }) => text += &format!("judge: none: {not_judged}\n"),
        None => {}
    }
    if let Some(path) = &curve.written {
        text += &format!("wrote {path}\n");
    }
    text
}

/// What the table is about, and what its numbers are shares of.
fn heading(curve: &Curve) -> String {
    let stats = &curve.original;
    let macs = stats
        .macs
        .map(|macs| format!("{} multiply-adds", grouped(macs)));
    let first = curve
        .timing
        .as_ref()
        .and_then(|timing| timing.files.first());
    let facts = [
        Some(format!("{} parameters", grouped(stats.params))),
        macs,
        Some(format!("{} bytes", grouped(stats.bytes))),
        first.map(|time| format!("{:.3} ms", 1e3 * time.seconds)),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    format!("{}: {}", curve.model, facts.join(", "))
}

fn shares(curve: &Curve) -> Table {
    let header = [
        "budget",
        "time",
        "multiply-adds",
        "parameters",
        "bytes",
        "agreement",
        "cosine",
        "change",
    ];
    let mut table = numbers(&header);
    for point in &curve.points {
        table.add_row(row(point, &curve.original));
    }
    table
}

fn row(point: &CurvePoint, original: &Stats) -> [String; 8] {
    let share = |now: Option<u64>, before: Option<u64>| match (now, before) {
        (Some(now), Some(before)) if before > 0 => format!("{:.3}", now as f64 / before as f64),
        _ => "?".to_string(),
    };
    let or_none = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.4}"));
    let stats = &point.stats;
    [
        point.at.to_string(),
        point.time.map_or_else(String::new, |time| {
            let [low, high] = time.spread;
            format!("{:.2} ({low:.2} to {high:.2})", time.ratio)
        }),
        share(stats.macs, original.macs),
        share(Some(stats.params), Some(original.params)),
        share(Some(stats.bytes), Some(original.bytes)),
        or_none(point.agreement),
        or_none(point.cosine),
        format!("{:.1} %", 100.0 * point.forecast),
    ]
}

fn layers(curve: &Curve) -> Table {
    let budgets = curve.points.iter().map(|point| point.at.to_string());
    let header: Vec<String> = std::iter::once("layer".to_string())
        .chain(budgets)
        .collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = numbers(&header);
    for ((layer, channels), methods) in curve.by_layer() {
        let name = if channels {
            format!("{layer}: channels")
        } else {
            layer.to_string()
        };
        table.add_row(std::iter::once(name.as_str()).chain(methods));
    }
    table
}
