//! What is in a model, as the command prints it.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table};

use super::table::{grouped, numbers};
use super::{Inspection, Typed};

/// The file's facts, inputs and outputs, sums, layers, and what passes will not touch.
pub fn inspection_table(inspection: &Inspection) -> String {
    let Inspection { file, stats, .. } = inspection;
    let mut text = format!("{} {}\n", inspection.model, inspection.name);
    let mut say = |what: &str, is: &str| {
        let _ = writeln!(text, "{what:13} {is}");
    };
    say("format", file.format);
    if let Some(producer) = &file.producer {
        say("producer", producer);
    }
    for (what, version) in &file.versions {
        say(what, &format!("version {version}"));
    }
    for (i, Typed { name, ty }) in inspection.inputs.iter().enumerate() {
        say(if i == 0 { "inputs" } else { "" }, &format!("{name}: {ty}"));
    }
    for (i, Typed { name, ty }) in inspection.outputs.iter().enumerate() {
        say(
            if i == 0 { "outputs" } else { "" },
            &format!("{name}: {ty}"),
        );
    }
    say("parameters", &grouped(stats.params));
    say("multiply-adds", &or_unknown(stats.macs));
    say("bytes", &grouped(stats.bytes));
    say("operators", &grouped(stats.nodes as u64));
    let kinds = inspection
        .operators
        .iter()
        .map(|(name, n)| format!("{name} {n}"));
    say("", &kinds.collect::<Vec<_>>().join(", "));
    if !inspection.opaque.is_empty() {
        let names = inspection.opaque.join(", ");
        say(
            "opaque",
            &format!("{names} (kept as they are, and what they read and write too)"),
        );
    }
    for (i, tied) in inspection.tied.iter().enumerate() {
        let readers = tied.readers.join(", ");
        let names = tied.names.join(" = ");
        say(
            if i == 0 { "tied" } else { "" },
            &format!("{names}, read by {readers}"),
        );
    }
    if !inspection.layers.is_empty() {
        let _ = writeln!(text, "\n{}", layers(inspection).trim_fmt());
    }
    if stats.macs.is_none() {
        text += "?: depends on sizes that have no number; --input gives them one\n";
    }
    if let Some(line) = stats.left_out() {
        text += &format!("{line}\n");
    }
    text
}

/// A row for each layer.
fn layers(inspection: &Inspection) -> Table {
    let mut table = numbers(&[
        "layer",
        "operator",
        "parameters",
        "zeros",
        "multiply-adds",
        "result",
    ]);
    if let Some(result) = table.column_mut(5) {
        result.set_cell_alignment(CellAlignment::Left);
    }
    for layer in &inspection.layers {
        table.add_row([
            layer.name.clone(),
            layer.operator.clone(),
            grouped(layer.params),
            match layer.zeros {
                0 => String::new(),
                zeros => format!("{:.1} %", 100.0 * zeros as f64 / layer.params as f64),
            },
            if inspection.stats.uncounted.contains_key(&layer.operator) && layer.macs.is_none() {
                "not counted".to_string()
            } else {
                or_unknown(layer.macs)
            },
            layer.ty.clone(),
        ]);
    }
    table
}

fn or_unknown(n: Option<u64>) -> String {
    n.map_or_else(|| "?".to_string(), grouped)
}
