//! Times that are measured on demand: what is asked, what is kept and trusted, and where it ends.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use optc::analysis::CostModel;
use optc::analysis::candidate::{CandidateOp, total};
use optc::analysis::latency::{Latency, Limits, Measured, Meter, Runtime, Time};
use optc::ir::{Bindings, Graph, Op, Type};
use optc::pipeline::{Cost, RunOptions, Verify};
use optc::{Model, Pipeline};

/// A runtime in which a run takes 500 ns, and each operator 1000 and as many as its result has elements. It refuses sigmoids.
#[derive(Clone, Debug, Default)]
struct Fake {
    timed: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn timed(&self) -> Vec<String> {
        std::mem::take(&mut *self.timed.lock().unwrap())
    }
}

impl Meter for Fake {
    fn runtime(&self) -> Runtime {
        Runtime {
            name: "fake".into(),
            version: "1.2.3".into(),
        }
    }

    fn threads(&self) -> usize {
        1
    }

    fn time(&self, network: &Graph) -> Result<Time, String> {
        optc::ir::verify(network).map_err(|violations| format!("{violations:?}"))?;
        let ops = || network.nodes().filter(|node| network.op(*node).is_some());
        let names: Vec<&str> = ops().map(|n| network.op(n).unwrap().name()).collect();
        self.timed.lock().unwrap().push(names.join(" "));
        if names.contains(&"sigmoid") {
            return Err("it knows no sigmoids".into());
        }
        let of = |node| {
            let shape = network.node(node).outputs[0].shape().unwrap();
            let elements: usize = shape.iter().map(|n| n.as_len().unwrap()).product();
            1000.0 + elements as f64
        };
        Ok(Time {
            ns: 500.0 + ops().map(of).sum::<f64>(),
            spread: 0.01,
        })
    }
}

fn ty(text: &str) -> Type {
    text.parse().unwrap()
}

/// The operators of a graph's text, each on the result of the one before.
fn plan(text: &str) -> Vec<CandidateOp> {
    let graph: Graph = text.parse().unwrap();
    let nodes = graph.topological_order().unwrap();
    let step = |node| {
        let op = graph.op(node)?;
        let operands = graph.operands(node);
        let operands = operands.iter().map(|value| graph.ty(*value).clone());
        CandidateOp::new(op.clone(), operands.collect())
    };
    nodes.into_iter().filter_map(step).collect()
}

const LOW_RANK: &str = "\
graph low_rank(%x: f32[N,64]) {
  @a = parameter 0.5 : f32[8,64]
  @b = parameter 0.5 : f32[32,8]
  %a1 = linear(%x, @a)
  %y = linear(%a1, @b)
  return %y
}
";

const CONV: &str = "\
graph conv(%x: f32[N,16,8,8]) {
  @w = parameter 0.5 : f32[32,16,3,3]
  %y = conv(%x, @w) {pad=[1,1]}
  return %y
}
";

fn bindings() -> Bindings {
    Bindings::from([("N".into(), 2)])
}

fn time(measured: Measured) -> Cost {
    Cost::Latency(Arc::new(Latency::Measured(measured)))
}

/// The nanoseconds of a plan.
fn ns(cost: &Cost, plan: &[CandidateOp]) -> Option<u64> {
    let bindings = bindings();
    let (_, picoseconds) = total(plan, &bindings, &CostModel::new(cost, &bindings))?;
    Some(picoseconds / 1000)
}

/// The nanoseconds of `op` on one operand.
fn operator(cost: &Cost, op: &Op, x: &str) -> u64 {
    let bindings = bindings();
    CostModel::new(cost, &bindings).op(op, &[&ty(x)], &[ty(x)]) / 1000
}

#[test]
fn a_plan_is_timed_as_one_chain_without_what_a_run_takes() {
    let fake = Fake::default();
    let cost = time(Measured::new(Box::new(fake.clone())));
    // Two products of 2 x 8 and 2 x 32.
    assert_eq!(ns(&cost, &plan(LOW_RANK)), Some(2000 + 16 + 64 - 1001));
    assert_eq!(fake.timed(), ["linear linear", "relu"]);
    assert_eq!(ns(&cost, &plan(LOW_RANK)), Some(2000 + 16 + 64 - 1001));
    assert!(fake.timed().is_empty(), "the second time nothing is timed");
    assert!(
        cost.described()
            .ends_with(", 1 thread: 2 measurements, 2 of them new"),
        "{}",
        cost.described()
    );
    assert!(
        cost.to_string().starts_with("time: fake 1.2.3 on "),
        "{cost}"
    );
}

#[test]
fn layers_of_images_stand_between_cheap_ones_that_are_no_part_of_their_time() {
    let fake = Fake::default();
    let cost = time(Measured::new(Box::new(fake.clone())));
    let own = ns(&cost, &plan(CONV)).unwrap();
    assert_eq!(
        fake.timed(),
        ["conv conv conv", "relu", "conv conv", "conv conv"]
    );
    // What enters has 16 channels inside and what leaves 32; outside there are 8.
    let cheap = |inside: u64| 1000 + 2 * inside * 64;
    let whole = cheap(16) + cheap(32) + cheap(8) + 500;
    let frames: u64 = [16, 32]
        .map(|c| (cheap(c) + cheap(8) - 1001) / 2)
        .iter()
        .sum();
    assert!(own.abs_diff(whole - 1501 - frames) <= 1, "{own}");
}

#[test]
fn what_the_runtime_refuses_leaves_the_plan_out_and_not_the_run() {
    let fake = Fake::default();
    let cost = time(Measured::new(Box::new(fake.clone())));
    let sigmoid = || CandidateOp::new(Op::Sigmoid {}, vec![ty("f32[2,64]")]).unwrap();
    assert_eq!(ns(&cost, &[sigmoid()]), None);
    assert!(operator(&cost, &Op::Sigmoid {}, "f32[2,64]") > 0);
    assert_eq!(fake.timed(), ["sigmoid"]);
    // Sizes without a number.
    let linear = plan(LOW_RANK);
    let none = Bindings::default();
    assert_eq!(total(&linear, &none, &CostModel::new(&cost, &none)), None);
    // Operators that are no chain.
    assert_eq!(ns(&cost, &[linear[1].clone(), linear[0].clone()]), None);
    // What would take more memory than there is.
    let large = CandidateOp::new(Op::Exp {}, vec![ty("f32[99999,99999]")]).unwrap();
    assert_eq!(ns(&cost, &[large]), None);
    assert!(fake.timed().is_empty());
}

#[test]
fn beyond_the_limit_times_are_estimated_from_those_of_the_same_kind() {
    let fake = Fake::default();
    let limits = Limits {
        operators: 2,
        chains: 1,
    };
    let cost = time(Measured::new(Box::new(fake.clone())).with_limits(limits));
    let first = operator(&cost, &Op::Exp {}, "f32[2,64]");
    assert_eq!(first, 1000 + 128 - 1001);
    operator(&cost, &Op::Exp {}, "f32[2,65]");
    assert_eq!(fake.timed().len(), 3);
    let third = operator(&cost, &Op::Exp {}, "f32[2,66]");
    assert!(fake.timed().is_empty());
    assert!(third.abs_diff(first) < first / 10, "{third} and {first}");
    // A plan has a limit of its own, and what was estimated is then measured.
    let exp = |x| CandidateOp::new(Op::Exp {}, vec![ty(x)]).unwrap();
    assert_eq!(ns(&cost, &[exp("f32[2,66]")]), Some(1000 + 132 - 1001));
    assert_eq!(fake.timed(), ["exp"]);
    assert!(ns(&cost, &[exp("f32[2,67]")]).is_some());
    assert!(fake.timed().is_empty());
}

/// The file in a folder.
fn only_file(folder: &Path) -> PathBuf {
    let mut files = fs::read_dir(folder).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

#[test]
fn measurements_are_kept_and_taken_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("optc");
    let fake = Fake::default();
    let open = || {
        let (measured, warning) = Measured::cached_in(&folder, Box::new(fake.clone()));
        assert_eq!(warning, None);
        time(measured)
    };
    let first = ns(&open(), &plan(CONV));
    assert_eq!(fake.timed().len(), 4);
    let cost = open();
    assert_eq!(ns(&cost, &plan(CONV)), first);
    assert!(fake.timed().is_empty());
    assert!(
        cost.described()
            .ends_with(": 4 measurements, 0 of them new")
    );
    let machine = r#""machine": \{[^}]*\}"#;
    insta::with_settings!({filters => vec![(machine, r#""machine": [this one]"#)]}, {
        common::snapshot("latency/measurements", &fs::read_to_string(only_file(&folder)).unwrap());
    });
}

#[test]
fn two_runs_at_a_time_keep_what_both_have_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.json");
    let fake = Fake::default();
    let open = || time(Measured::pinned(&path, Box::new(fake.clone())).unwrap());
    let (one, other) = (open(), open());
    ns(&one, &plan(CONV));
    ns(&other, &plan(LOW_RANK));
    drop((one, other));
    fake.timed();
    let both = open();
    assert!(ns(&both, &plan(CONV)).is_some() && ns(&both, &plan(LOW_RANK)).is_some());
    assert!(fake.timed().is_empty());
}

#[test]
fn a_cache_of_another_processor_or_a_damaged_one_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let fake = Fake::default();
    let open = || Measured::cached_in(folder, Box::new(fake.clone()));
    let (measured, warning) = open();
    assert_eq!(warning, None);
    ns(&time(measured), &plan(LOW_RANK));
    let path = only_file(folder);
    let good = fs::read_to_string(&path).unwrap();
    let changed = |old: &str, new: &str| {
        assert!(good.contains(old), "{good}");
        good.replace(old, new)
    };
    let mut text = String::new();
    let damaged = [
        String::new(),
        "[]".to_string(),
        good[..good.find("\"measurements\"").unwrap()].to_string(),
        changed("\"format\": 1", "\"format\": 2"),
        changed("\"version\": \"1.2.3\"", "\"version\": \"1.2.2\""),
        changed("\"cpu\": \"", "\"cpu\": \"not "),
        changed("\"ns\": 1", "\"ns\": -1"),
    ];
    for content in damaged {
        fs::write(&path, &content).unwrap();
        let (measured, warning) = open();
        text += &format!("{}\n", warning.unwrap());
        fake.timed();
        let cost = time(measured);
        assert!(ns(&cost, &plan(LOW_RANK)).is_some());
        assert_eq!(fake.timed().len(), 2, "nothing of it is used");
        drop(cost);
        assert_eq!(fs::read_to_string(&path).unwrap(), good, "another is made");
        // A file that was named is not written over.
        fs::write(&path, &content).unwrap();
        let error = Measured::pinned(&path, Box::new(fake.clone())).unwrap_err();
        text += &format!("{error}\n\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
    let name = path.display().to_string();
    let text = text.replace(&name, "set.json");
    let filters = vec![(r"on .*? \(\d+ cores?\)", "on [a processor]")];
    insta::with_settings!({filters => filters}, {
        common::snapshot("errors/measurements", &text);
    });
}

/// A residual network's block, with two equal filters.
const BLOCK: &str = "\
graph block(%x: f32[N,16,8,8]) where N=1 {
  @a = parameter rows(normal(1), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 14]) : f32[16,16,3,3]
  @b = parameter normal(2) : f32[16,16,3,3]
  %a1 = conv(%x, @a) {pad=[1,1]}
  %relu = relu(%a1)
  %b1 = conv(%relu, @b) {pad=[1,1]}
  %sum = add(%b1, %x)
  return %sum
}
";

#[test]
fn the_same_measurements_give_the_same_network() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.json");
    let fake = Fake::default();
    let run = || {
        let mut model = Model::new(BLOCK.parse().unwrap());
        let options = RunOptions {
            cost: time(Measured::pinned(&path, Box::new(fake.clone())).unwrap()),
            verify: Verify::Nothing,
            ..RunOptions::default()
        };
        let pipeline = Pipeline::parse("red{hash=none}").unwrap();
        let report = pipeline.run_with(&mut model, &options, &mut ()).unwrap();
        (format!("{:#}", model.graph), report)
    };
    let (first, report) = run();
    assert!(!fake.timed().is_empty());
    let seconds = report.predicted_seconds.unwrap();
    assert!(seconds.after <= seconds.before, "{seconds:?}");
    let (second, report) = run();
    assert!(fake.timed().is_empty());
    assert_eq!(first, second);
    assert!(report.cost.ends_with(", 0 of them new"), "{}", report.cost);
}

#[test]
fn nothing_is_measured_for_sizes_without_a_number() {
    let fake = Fake::default();
    let mut model = Model::new(BLOCK.replace(" where N=1", "").parse().unwrap());
    let options = RunOptions {
        cost: time(Measured::new(Box::new(fake.clone()))),
        ..RunOptions::default()
    };
    let pipeline = Pipeline::parse("red{hash=none}").unwrap();
    let error = pipeline.run_with(&mut model, &options, &mut ());
    let error = error.unwrap_err().to_string();
    assert!(
        error.starts_with("the cost `time` needs the size of the input `x`"),
        "{error}"
    );
    assert!(fake.timed().is_empty());
}

/// What ONNX Runtime takes, as far as that is the same everywhere: a layer of many more multiply-adds takes longer.
#[cfg(feature = "onnxruntime")]
#[test]
fn onnx_runtime_times_chains_where_it_is_installed() {
    let meter = match optc::judge::meter(1) {
        Ok(meter) => meter,
        Err(error) => return eprintln!("not measured: {error}"),
    };
    let cost = time(Measured::new(meter));
    let conv = |channels: usize| {
        let text = CONV.replace("16", &channels.to_string());
        ns(&cost, &plan(&text.replace("8,8", "16,16"))).unwrap()
    };
    let (small, large) = (conv(16), conv(512));
    assert!(small < large, "{small} and {large} ns");
    assert!(ns(&cost, &plan(LOW_RANK)).unwrap() < large);
    for op in [
        Op::Gelu { tanh: false },
        Op::Softmax { axis: 1 },
        Op::Relu {},
    ] {
        assert!(operator(&cost, &op, "f32[2,64,16,16]") > 0);
    }
}
