//! Costs of time: tables and their refusal, what is measured, and what extraction makes of it.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use optc::analysis::CostModel;
use optc::analysis::latency::{
    Entry, Kind, Latency, LatencyTable, Machine, Roofline, Runtime, Shape,
};
use optc::ir::{Bindings, Graph, Op, Type};
use optc::pipeline::{Cost, RunOptions, Verify};
use optc::profile::{Care, Case, Layer, Prepared, Runner, grid, measure, separated};
use optc::{Model, Pipeline, Report, Result};

fn machine() -> Machine {
    Machine {
        cpu: "Processor 5".into(),
        cores: 4,
        lanes: 8,
    }
}

fn shape(op: Kind, channels: u64) -> Shape {
    Shape {
        op,
        kernel: 1,
        stride: 1,
        channels_in: channels,
        channels_out: channels,
        positions: 64,
        macs: 64 * channels * channels,
        moved: 128 * channels,
    }
}

fn table() -> LatencyTable {
    LatencyTable {
        format: 1,
        optc: "0.1.0".into(),
        runtime: Runtime {
            name: "onnxruntime".into(),
            version: "1.22.0".into(),
        },
        machine: machine(),
        threads: 2,
        date: "2026-01-31".into(),
        entries: vec![Entry {
            shape: shape(Kind::Pointwise, 16),
            ns: 812.5,
        }],
    }
}

#[test]
fn a_table_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latency.json");
    table().write(&path).unwrap();
    let version = |name: &str| (name == "onnxruntime").then(|| "1.22.0".to_string());
    assert_eq!(
        LatencyTable::read(&path, &machine(), version).unwrap(),
        table()
    );
    common::snapshot("latency/table", &std::fs::read_to_string(&path).unwrap());
}

#[test]
fn a_table_of_something_else_is_refused_with_the_command_that_makes_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latency.json");
    let mut text = String::new();
    let mut refused = |machine: &Machine, installed: &str| {
        let installed = Some(installed.to_string());
        let error = LatencyTable::read(&path, machine, |_| installed).unwrap_err();
        text += &format!("{error}\n\n").replace(&path.display().to_string(), "latency.json");
    };
    refused(&machine(), "1.22.0");
    for content in ["", "[]", "{\"format\": 2}", "{\"format\": 1}"] {
        std::fs::write(&path, content).unwrap();
        refused(&machine(), "1.22.0");
    }
    table().write(&path).unwrap();
    let processor = Machine {
        cpu: "Processor 6".into(),
        ..machine()
    };
    refused(&processor, "1.22.0");
    let cores = Machine {
        cores: 8,
        ..machine()
    };
    refused(&cores, "1.22.0");
    refused(&machine(), "1.23.1");
    let written = std::fs::read_to_string(&path).unwrap();
    for (old, new) in [("812.5", "-1.0"), ("pointwise", "magic")] {
        std::fs::write(&path, written.replace(old, new)).unwrap();
        refused(&machine(), "1.22.0");
    }
    let empty = LatencyTable {
        entries: Vec::new(),
        ..table()
    };
    empty.write(&path).unwrap();
    refused(&machine(), "1.22.0");
    common::snapshot("errors/latency_table", &text);
}

/// A runtime in which everything takes no time at all.
struct Idle;

impl Runner for Idle {
    fn runtime(&self) -> Runtime {
        Runtime {
            name: "idle".into(),
            version: "1".into(),
        }
    }

    fn threads(&self) -> usize {
        1
    }

    fn prepare<'a>(&'a mut self, _: &Graph) -> Result<Prepared<'a>> {
        Ok(Box::new(|| Ok(())))
    }
}

const HASTE: Care = Care {
    rounds: 1,
    again: 1,
    time: Duration::ZERO,
};

/// One small case of each layer.
fn tiny() -> Vec<Case> {
    let layers = [
        Layer::Conv {
            kernel: 1,
            stride: 1,
        },
        Layer::Depthwise {
            kernel: 3,
            stride: 1,
        },
        Layer::Conv {
            kernel: 3,
            stride: 1,
        },
        Layer::Conv {
            kernel: 3,
            stride: 2,
        },
        Layer::Depthwise {
            kernel: 3,
            stride: 2,
        },
        Layer::Linear,
        Layer::Gather,
        Layer::Relu,
        Layer::Add,
        Layer::BatchNorm,
        Layer::MaxPool,
    ];
    let case = |layer| Case {
        layer,
        channels_in: 16,
        channels_out: 16,
        side: 8,
    };
    layers.map(case).to_vec()
}

#[test]
fn every_kind_of_operator_is_measured() {
    let mut seen = Vec::new();
    let mut progress = |what: &str, fraction: f64| {
        assert!((0.0..1.0).contains(&fraction));
        seen.push(what.to_string());
    };
    let table = measure(&mut Idle, &tiny(), HASTE, &mut progress).unwrap();
    assert!(seen.len() >= tiny().len());
    for kind in [
        Kind::Conv,
        Kind::Pointwise,
        Kind::Depthwise,
        Kind::Linear,
        Kind::Gather,
        Kind::Activation,
        Kind::Binary,
        Kind::BatchNorm,
        Kind::Pool,
    ] {
        assert!(table.entries.iter().any(|e| e.shape.op == kind), "{kind:?}");
    }
    assert!(table.entries.iter().all(|e| e.ns > 0.0));
    assert_eq!(table.runtime.name, "idle");
}

#[test]
fn the_grid_has_each_case_once() {
    let cases = grid();
    let unique: HashSet<&Case> = cases.iter().collect();
    assert_eq!(cases.len(), unique.len());
    assert!(separated().len() >= 12);
}

/// What ONNX Runtime takes for the smallest networks, where it is installed.
#[cfg(feature = "onnxruntime")]
#[test]
fn onnx_runtime_is_measured_where_it_is_installed() {
    use optc::profile::onnxruntime::{OnnxRuntime, find_library};
    let mut runner = match find_library().and_then(|library| OnnxRuntime::load(&library, 1)) {
        Ok(runner) => runner,
        Err(error) => return eprintln!("not measured: {error}"),
    };
    let table = measure(&mut runner, &tiny(), HASTE, &mut |_, _| {}).unwrap();
    let ns = |kind| {
        table
            .entries
            .iter()
            .find(|e| e.shape.op == kind)
            .unwrap()
            .ns
    };
    assert!(ns(Kind::Conv) > 0.0);
    let version = table.runtime.version;
    assert!(version.starts_with("1."), "{version}");
}

/// What libtorch takes for the smallest networks.
#[cfg(feature = "torch")]
#[test]
fn libtorch_is_measured() {
    use optc::profile::torch::Torch;
    let table = measure(&mut Torch::new(1), &tiny(), HASTE, &mut |_, _| {}).unwrap();
    assert!(table.entries.iter().all(|e| e.ns > 0.0));
}

#[test]
fn a_model_of_time_counts_picoseconds() {
    let roofline = Roofline::new(1, 8);
    let cost = Cost::Latency(Arc::new(Latency::Roofline(roofline)));
    let bindings = Bindings::from([("N".into(), 1)]);
    let model = CostModel::new(&cost, &bindings);
    let [x, weight, y] = ["f32[N,512]", "f32[256,512]", "f32[N,256]"]
        .map(|text| text.parse::<Type>().expect("a type"));
    let op = Op::Linear {};
    let shape = Shape::of(&op, &[&x, &weight], std::slice::from_ref(&y), &|dim| {
        dim.eval(&bindings).map_or(0, |n| n as u64)
    });
    let picoseconds = model.op(&op, &[&x, &weight], &[y]);
    assert_eq!(
        picoseconds,
        (1000.0 * roofline.nanoseconds(&shape)).round() as u64
    );
    assert_eq!(model.steps([3, 4]), 7);
    assert_eq!(CostModel::new(&Cost::Macs, &bindings).steps([3, 4]), 4);
}

/// Two equal channels of four that the output shows all: one convolution less, one gather more.
const TWINS: &str = "\
graph twins(%x: f32[N,16,H,W]) {
  @conv.weight = parameter rows(normal(1), [0, 1, 2, 2]) : f32[4,16,3,3]
  %conv = conv(%x, @conv.weight) {pad=[1,1]}
  %relu = relu(%conv)
  return %relu
}
";

fn optimised(input: &str, cost: Cost) -> Result<(String, Report)> {
    let mut graph: Graph = TWINS.parse()?;
    for (name, size) in ["N", "H", "W"].iter().zip(input.split('x')) {
        if let Ok(size) = size.parse() {
            graph.bindings.insert((*name).into(), size);
        }
    }
    let mut model = Model::new(graph);
    let options = RunOptions {
        cost,
        verify: Verify::Nothing,
        ..RunOptions::default()
    };
    let report = Pipeline::parse("red{hash=none}")?.run_with(&mut model, &options, &mut ())?;
    Ok((model.graph.to_string(), report))
}

#[test]
fn extraction_takes_what_is_faster() {
    let latency = || Cost::Latency(Arc::new(Latency::Roofline(Roofline::new(1, 4))));
    let (small, report) = optimised("1x4x4", latency()).unwrap();
    assert!(!small.contains("gather"), "{small}");
    let seconds = report.predicted_seconds.unwrap();
    assert_eq!(seconds.before, seconds.after);
    let (counted, report) = optimised("1x4x4", Cost::Macs).unwrap();
    assert!(counted.contains("gather"), "{counted}");
    assert_eq!(
        (report.cost.as_str(), report.predicted_seconds),
        ("macs", None)
    );
    // Vectors of one: a channel less is work less.
    let large = Cost::Latency(Arc::new(Latency::Roofline(Roofline::new(1, 1))));
    let (large, report) = optimised("1x64x64", large).unwrap();
    assert!(large.contains("gather"), "{large}");
    let seconds = report.predicted_seconds.unwrap();
    assert!(seconds.after < seconds.before, "{seconds:?}");
    assert_eq!(report.cost, "latency: roofline of 1 core with vectors of 1");
}

#[test]
fn time_is_not_predicted_for_sizes_without_a_number() {
    let latency = Cost::Latency(Arc::new(Latency::Roofline(Roofline::new(1, 4))));
    let error = optimised("1xHx4", latency).unwrap_err().to_string();
    common::snapshot("errors/latency_sizes", &error);
}

#[test]
fn this_machine_has_a_name() {
    let machine = Machine::this();
    assert!(!machine.cpu.is_empty() && machine.cores > 0, "{machine}");
}
