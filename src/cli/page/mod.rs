//! A report that one can look at: one page with all that it needs, for a browser without a network.
//!
//! What is said is in the page as JSON, and `page.js` shows it; nothing of a model is ever markup. The chart is by uPlot (MIT).

use std::collections::HashMap;

use optc::Model;
use optc::ir::{Graph, NodeId, NodeKind, Op, Value};
use optc::report::{Inspection, Layer, Report, Stats};
use serde::Serialize;

use super::explore::curve::Curve;

const STYLES: [&str; 2] = [
    include_str!("uplot/uPlot.min.css"),
    include_str!("page.css"),
];
const SCRIPTS: [&str; 4] = [
    include_str!("uplot/uPlot.iife.min.js"),
    include_str!("chart.js"),
    include_str!("graph.js"),
    include_str!("page.js"),
];
const LICENSE: &str = include_str!("uplot/LICENSE");

/// What there is to show.
#[derive(Serialize)]
pub struct Page<'a> {
    optc: &'static str,
    model: &'a str,
    /// What was done, where something was.
    report: Option<&'a Report>,
    /// What can be had, where that was explored.
    curve: Option<&'a Curve>,
    before: Side,
    after: Option<Side>,
}

/// One of the two networks.
#[derive(Serialize)]
struct Side {
    stats: Stats,
    layers: Vec<Layer>,
    /// Inputs and operations, each after those that it reads.
    nodes: Vec<Drawn>,
}

/// A node of the drawing.
#[derive(Serialize)]
struct Drawn {
    name: String,
    operator: String,
    /// The nodes that it reads, by their places; constants are left out.
    reads: Vec<usize>,
}

impl<'a> Page<'a> {
    /// What became of a model, with the sizes that it was run with.
    pub fn of_run(report: &'a Report, before: &Model, after: &Model) -> Page<'a> {
        let mut before = before.clone();
        before.graph.bindings.clone_from(&after.graph.bindings);
        Page {
            optc: report.optc,
            model: &report.model,
            report: Some(report),
            curve: None,
            before: Side::of(&before),
            after: Some(Side::of(after)),
        }
    }

    /// What can become of it.
    pub fn of_curve(curve: &'a Curve, before: &Model) -> Page<'a> {
        Page {
            optc: env!("CARGO_PKG_VERSION"),
            model: &curve.model,
            report: None,
            curve: Some(curve),
            before: Side::of(before),
            after: None,
        }
    }

    /// The page.
    pub fn to_html(&self) -> String {
        // Nothing in it fails to serialise. What could end the element that it stands in is written as an escape.
        let json = serde_json::to_string(self).unwrap_or_default();
        let json = json.replace('<', "\\u003c");
        let [head, middle, end] = [
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
             <title>optc</title>\n<style>\n",
            "</style>\n</head>\n<body>\n<main id=\"page\"></main>\n<noscript>This page shows a report by a script in it.</noscript>\n\
             <script type=\"application/json\" id=\"data\">",
            "</script>\n",
        ];
        let mut html = head.to_string() + &STYLES.join("\n") + middle + &json + end;
        html += &format!("<!--\nuPlot:\n{LICENSE}-->\n");
        for script in SCRIPTS {
            html += &format!("<script>\n{script}\n</script>\n");
        }
        html + "</body>\n</html>\n"
    }
}

impl Side {
    fn of(model: &Model) -> Side {
        let inspection = Inspection::of(model);
        Side {
            stats: Stats::of(&model.graph),
            layers: inspection.layers,
            nodes: drawn(&model.graph),
        }
    }
}

fn drawn(graph: &Graph) -> Vec<Drawn> {
    let mut places: HashMap<NodeId, usize> = HashMap::new();
    let mut nodes = Vec::new();
    for id in graph.topological_order().unwrap_or_default() {
        let node = graph.node(id);
        let operator = match &node.kind {
            NodeKind::Op(Op::Opaque(opaque)) => opaque.name.to_string(),
            NodeKind::Op(op) => op.name().to_string(),
            NodeKind::Constant(_) => continue,
            NodeKind::Input => "input".to_string(),
        };
        let operands = graph.operands(id);
        let place = |value: &Value| places.get(&value.node).copied();
        let reads: Vec<usize> = operands.iter().filter_map(place).collect();
        places.insert(id, nodes.len());
        nodes.push(Drawn {
            name: node.name.to_string(),
            operator,
            reads,
        });
    }
    nodes
}
