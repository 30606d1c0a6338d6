//! The table that the command prints.

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};
use indexmap::IndexSet;

use super::{Change, Measured, Report, Sparsity, Stats, TakenBack, Verification};
use crate::judge::Verdict;

/// A line under the header and no other.
const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// Before and after, then each pass, then how far the outputs moved: as optc forecasts it, and as a runtime found it.
pub fn table(report: &Report) -> String {
    let mut text = sizes(report).trim_fmt() + "\n";
    if report.predicted_seconds.is_some() {
        text += &format!(
            "predicted by a {}\n",
            report.cost.trim_start_matches("latency: ")
        );
    }
    if report.before.macs.is_none() {
        text += "?: depends on sizes that have no number; --input or --data gives them one\n";
    }
    if let Some(line) = report.before.left_out().or_else(|| report.after.left_out()) {
        text += &format!("{line}\n");
    }
    if !report.passes.is_empty() {
        text += &format!("\n{}\n", passes(report).trim_fmt());
    }
    if let Some(sparsity) = &report.sparsity {
        text += &format!("\n{}\n", masks(sparsity).trim_fmt());
    }
    if let Some(verification @ Verification::Measured { .. }) = &report.verify {
        text += &format!("\nforecast: {verification}\n");
    }
    match &report.judge {
        Some(Verdict::Judged(judgement)) => text += &format!("judge: {judgement}\n"),
        Some(Verdict::NotJudged { not_judged }) => text += &format!("judge: none: {not_judged}\n"),
        None => {}
    }
    if let Some(time) = &report.time {
        text += &measured(time);
        // Where nobody judges, that line says why already.
        if let (Some(why), Some(Verdict::Judged(_))) = (&time.not_measured, &report.judge) {
            text += &format!("time: not measured: {why}\n");
        }
    }
    if let Some(eval) = &report.eval {
        if let (Some(before), Some(after)) = (eval.top1_before, eval.top1_after) {
            text += &format!(
                "top-1: {:.2} % before, {:.2} % after, on {} samples of {}\n",
                100.0 * before,
                100.0 * after,
                eval.samples,
                eval.data
            );
        }
        if let Some(agreement) = eval.agreement {
            text += &format!("same answer as before: {:.2} %, ", 100.0 * agreement);
        }
        text += &format!(
            "cosine {:.6}, on {} samples of {}\n",
            eval.cosine, eval.samples, eval.data
        );
    }
    text
}

/// How the time changed, and what was taken back for it.
fn measured(time: &Measured) -> String {
    let mut text = String::new();
    for TakenBack { pass, why } in &time.taken_back {
        text += &format!("taken back: {pass}: {why}\n");
    }
    for timing in &time.timings {
        if let [before, after] = &timing.files[..] {
            let (before, ms) = (1e3 * before.seconds, 1e3 * after.seconds);
            text += &format!("time: {after}, {before:.3} ms before, {ms:.3} ms after; {timing}\n");
        }
    }
    text
}

fn sizes(report: &Report) -> Table {
    let (before, after) = (&report.before, &report.after);
    let mut table = numbers(&["", "before", "after", "change"]);
    let mut row = |name: &str, before: Option<u64>, after: Option<u64>| {
        table.add_row([
            name.to_string(),
            before.map_or_else(|| "?".to_string(), grouped),
            after.map_or_else(|| "?".to_string(), grouped),
            change(before, after),
        ]);
    };
    row("parameters", Some(before.params), Some(after.params));
    row("multiply-adds", before.macs, after.macs);
    if let Some(Change { before, after }) = report.predicted_seconds {
        let microseconds = |s: Option<f64>| s.map(|s| (s * 1e6).round() as u64);
        row("predicted µs", microseconds(before), microseconds(after));
    }
    row("bytes", Some(before.bytes), Some(after.bytes));
    row(
        "operators",
        Some(before.nodes as u64),
        Some(after.nodes as u64),
    );
    let kinds: IndexSet<&String> = before
        .operators
        .keys()
        .chain(after.operators.keys())
        .collect();
    for kind in kinds {
        let count = |stats: &Stats| Some(stats.operators.get(kind).map_or(0, |n| *n as u64));
        row(&format!("  {kind}"), count(before), count(after));
    }
    table
}

fn passes(report: &Report) -> Table {
    let mut table = numbers(&[
        "pass",
        "seconds",
        "parameters",
        "multiply-adds",
        "operators",
        "result",
    ]);
    for pass in &report.passes {
        table.add_row([
            pass.name.clone(),
            format!("{:.2}", pass.seconds),
            grouped(pass.params),
            pass.macs.map_or_else(|| "?".to_string(), grouped),
            grouped(pass.nodes as u64),
            match (&pass.stop_reason, pass.changed) {
                (Some(reason), _) => reason.clone(),
                (None, true) => "changed".to_string(),
                (None, false) => "no change".to_string(),
            },
        ]);
    }
    table
}

fn masks(sparsity: &Sparsity) -> Table {
    let mut table = numbers(&["masked", "parameters", "zeros", "sparsity"]);
    let mut row = |name: &str, params: u64, zeros: u64| {
        let share = zeros as f64 / params.max(1) as f64;
        table.add_row([
            name.to_string(),
            grouped(params),
            grouped(zeros),
            format!("{:.1} %", 100.0 * share),
        ]);
    };
    for constant in &sparsity.masked {
        row(&constant.name, constant.params, constant.zeros);
    }
    row("of all parameters", sparsity.params, sparsity.zeros);
    table
}

/// A table whose columns but the first are right-aligned.
pub fn numbers(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(header.iter().map(Cell::new));
    for (i, column) in table.column_iter_mut().enumerate() {
        if i == 0 {
            column.set_padding((0, 1));
        } else {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Digits in groups of three: `23 454 912`.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn change(before: Option<u64>, after: Option<u64>) -> String {
    match (before, after) {
        (Some(before), Some(after)) if before > 0 && before != after => {
            format!("{:+.1} %", (after as f64 / before as f64 - 1.0) * 100.0)
        }
        (Some(before), Some(after)) if before != after => "new".to_string(),
        _ => String::new(),
    }
}
