//! Pipelines: their text, and how the manager runs them.

#[path = "../common/mod.rs"]
mod common;
mod passes;

use std::fmt::Write as _;
use std::sync::Arc;

use ndarray::ArrayD;
use optc::data::Samples;
use optc::formats::bind_inputs;
use optc::ir::{DType, Dim, Graph, NodeId, NodeKind, Op, Type, Value};
use optc::pipeline::{
    Changed, Kind, Observer, Options, Pass, PassContext, PassInfo, Registry, RemarkKind,
    RunOptions, Values, Verify,
};
use optc::report::{PassReport, Verification};
use optc::{Error, Model, Pipeline, Report, Result};
use passes::{FromFn, registry};
use proptest::prelude::*;

fn parse(text: &str) -> Pipeline {
    registry().parse(text).unwrap_or_else(|e| panic!("{e}"))
}

/// An input `[N,4]`, and `n` relus on it.
fn relus(n: usize) -> Model {
    let mut graph = Graph::new("net");
    let shape = [Dim::symbol("N"), Dim::from(4)];
    let mut value: Value = graph.add_input("x", Type::tensor(DType::F32, shape)).into();
    for _ in 0..n {
        value = graph.add_op("relu", Op::Relu {}, &[value]).unwrap().into();
    }
    graph.add_output("y", value);
    graph.bindings.insert("N".into(), 2);
    Model::new(graph)
}

fn operations(model: &Model) -> usize {
    let graph = &model.graph;
    let is_op = |node: &NodeId| matches!(graph.node(*node).kind, NodeKind::Op(_));
    graph.nodes().filter(is_op).count()
}

fn names(report: &Report) -> Vec<&str> {
    report
        .passes
        .iter()
        .map(|pass| pass.name.as_str())
        .collect()
}

#[test]
fn a_pipeline_is_printed_in_one_way() {
    for (text, canonical) in [
        ("", ""),
        (" \n ", ""),
        (" peel-relu ", "peel-relu"),
        ("peel-relu{}, negate { }", "peel-relu,negate"),
        (
            "negate{claim=lossy,strength=0.25}",
            "negate{claim=lossy,strength=0.25}",
        ),
        (
            "negate{ strength = 0.250 , claim = lossy }",
            "negate{claim=lossy,strength=0.25}",
        ),
        ("negate{strength=0.5,times=1,loud=false}", "negate"),
        ("negate{loud}", "negate{loud=true}"),
        ("negate{strength=1,times=2}", "negate{strength=1,times=2}"),
        ("negate{strength=1e-9}", "negate{strength=1e-9}"),
        (
            "repeat ( peel-relu , repeat{max=3}(negate) )",
            "repeat(peel-relu,repeat{max=3}(negate))",
        ),
        ("repeat{max=10}(negate)", "repeat(negate)"),
    ] {
        let pipeline = parse(text).to_string();
        assert_eq!(pipeline, canonical, "{text}");
        assert_eq!(parse(&pipeline).to_string(), canonical, "{text}");
    }
}

#[test]
fn every_mistake_in_a_pipeline_is_pointed_at() {
    let nested = format!("{}negate{}", "repeat(".repeat(17), ")".repeat(17));
    let mut text = String::new();
    for pipeline in [
        "peel-rleu",
        "xyz",
        "negate,,peel-relu",
        "negate,",
        ",",
        "ré",
        "repaet(negate)",
        "negate peel-relu",
        "negate;peel-relu",
        "negate{claim=exactt}",
        "negate{clam=exact}",
        "negate{q=1}",
        "negate{=1}",
        "negate{claim}",
        "negate{claim=}",
        "negate{strength=1.5}",
        "negate{strength=NaN}",
        "negate{times=0}",
        "negate{times=two}",
        "negate{loud=yes}",
        "negate{loud,loud}",
        "negate{claim=exact",
        "negate{claim=exact,",
        "negate{",
        "peel-relu{fast}",
        "negate(peel-relu)",
        "repeat",
        "repeat()",
        "repeat(negate",
        "repeat(negate negate)",
        "repeat(negate))",
        "repeat{max=0}(negate)",
        "repeat{times=3}(negate)",
        "negate}",
        "negate,\n  peel-relu{x=1},\n  negate",
        &nested,
    ] {
        let error = match registry().parse(pipeline) {
            Ok(_) => panic!("`{pipeline}` is taken"),
            Err(error) => error,
        };
        writeln!(text, "{error}\n").unwrap();
    }
    common::snapshot("errors/pipeline_text", &text);
}

proptest! {
    #[test]
    fn any_text_is_a_pipeline_or_an_error(text in "\\PC*") {
        let _ = registry().parse(&text).map_err(|e| e.to_string());
    }

    #[test]
    fn text_like_a_pipeline_is_one_or_an_error(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "repeat", "(", ")", "{", "}", ",", "=", "negate", "peel-relu", "claim", "lossy", "loud", "max", "3", " ", "é",
            ]),
            0..40,
        )
    ) {
        if let Ok(pipeline) = registry().parse(&parts.concat()) {
            let printed = pipeline.to_string();
            prop_assert_eq!(registry().parse(&printed).unwrap().to_string(), printed);
        }
    }
}

#[test]
fn a_pass_runs_once_and_tells_what_it_did() {
    let mut model = relus(4);
    let report = parse("peel-relu").run(&mut model).unwrap();
    assert_eq!(operations(&model), 3);
    let pass = &report.passes[0];
    assert!(pass.changed);
    assert_eq!(
        (report.before.nodes, pass.nodes, report.after.nodes),
        (4, 3, 3)
    );
    assert_eq!(pass.stop_reason.as_deref(), Some("one is enough"));
    assert_eq!(pass.remarks[0].text, "removed");
}

#[test]
fn repeat_runs_until_nothing_changes() {
    let mut model = relus(4);
    let report = parse("repeat(peel-relu)").run(&mut model).unwrap();
    assert_eq!(operations(&model), 1);
    assert_eq!(
        report.passes.len(),
        4,
        "three changes and one round without"
    );
}

#[test]
fn repeat_ends_at_its_bound_and_says_so() {
    let report = parse("repeat{max=3}(flip)").run(&mut relus(1)).unwrap();
    assert_eq!(report.passes.len(), 3);
    let remarks = &report.passes[2].remarks;
    assert_eq!(
        remarks[0].text,
        "repeat ended after 3 rounds though the last still changed something"
    );
}

#[test]
fn stop_after_counts_runs_of_passes() {
    let pipeline = parse("repeat(peel-relu),negate,flip");
    for n in 0..8 {
        let options = RunOptions {
            stop_after: Some(n),
            verify: Verify::Nothing,
            ..RunOptions::default()
        };
        let report = pipeline.run_with(&mut relus(4), &options, &mut ()).unwrap();
        let all = [
            "peel-relu",
            "peel-relu",
            "peel-relu",
            "peel-relu",
            "negate",
            "flip",
        ];
        assert_eq!(names(&report), all[..n.min(6)]);
    }
}

#[test]
fn a_failing_pass_is_named_and_leaves_the_model_as_it_was() {
    let mut model = relus(2);
    let before = model.graph.to_string();
    let mut text = String::new();
    for pipeline in ["fail", "break", "more"] {
        let error = parse(&format!("peel-relu,{pipeline}"))
            .run(&mut model)
            .unwrap_err();
        assert_eq!(model.graph.to_string(), before);
        writeln!(text, "{error}\n").unwrap();
    }
    common::snapshot("errors/pipeline_run", &text);
}

fn verified(pipeline: &str, verify: Verify) -> Result<Report> {
    let options = RunOptions {
        verify,
        ..RunOptions::default()
    };
    parse(pipeline).run_with(&mut relus(2), &options, &mut ())
}

#[test]
fn an_exact_pass_that_moves_the_outputs_fails_the_run() {
    let each = verified("peel-relu,negate,flip", Verify::Each).unwrap_err();
    let whole = verified("peel-relu,negate,flip", Verify::Whole).unwrap_err();
    common::snapshot("errors/pipeline_verify", &format!("{each}\n\n{whole}\n"));
}

#[test]
fn nothing_is_compared_when_nothing_is_to_be_verified() {
    let report = verified("negate", Verify::Nothing).unwrap();
    assert_eq!(report.verify, None);
}

#[test]
fn a_lossy_pass_reports_how_far_it_moves_the_outputs() {
    let report = verified("negate{claim=lossy},flip", Verify::Each).unwrap();
    let moved = &report.passes[0].remarks[0];
    assert_eq!(moved.kind, RemarkKind::Analysis);
    assert!(
        moved.text.starts_with("outputs: max_rel "),
        "{}",
        moved.text
    );
    assert!(
        matches!(report.verify, Some(Verification::Measured { moved, .. }) if moved.max_abs > 0.1)
    );
    let unmoved = &report.passes[1].remarks[0].text;
    assert!(unmoved.starts_with("outputs: max_rel 0,"), "{unmoved}");
}

#[test]
fn observers_see_passes_start_proceed_and_end() {
    #[derive(Default)]
    struct Log(Vec<String>);
    impl Observer for Log {
        fn pass_started(&mut self, pass: &PassInfo) {
            self.0.push(format!("start {}", pass.name));
        }
        fn progress(&mut self, pass: &PassInfo, layer: &str, fraction: f64) {
            self.0.push(format!("{} {layer} {fraction}", pass.name));
        }
        fn pass_finished(&mut self, report: &PassReport, graph: &Graph) {
            self.0.push(format!("end {} {}", report.name, graph.len()));
        }
        fn verifying(&mut self, stage: &str) {
            self.0.push(format!("verify {stage}"));
        }
    }
    let mut log = Log::default();
    parse("peel-relu,flip")
        .run_with(&mut relus(2), &RunOptions::default(), &mut log)
        .unwrap();
    assert_eq!(
        log.0,
        [
            "start peel-relu",
            "peel-relu relu 0.5",
            "end peel-relu 2",
            "start flip",
            "end flip 2",
            "verify the pipeline",
        ]
    );
}

#[test]
fn samples_give_numbers_to_sizes_that_have_none() {
    let convolution = |input: &str| -> Model {
        let text = format!(
            "graph net(%x: {input}) {{\n  @w = parameter normal(1) : f32[2,3,1,1]\n  %y = conv(%x, @w)\n  return %y\n}}\n"
        );
        Model::new(text.parse().unwrap())
    };
    let run = |mut model: Model| -> Result<(Option<u64>, Model)> {
        let options = RunOptions {
            samples: Some(Arc::new(Samples::of_array(
                "memory",
                &ArrayD::zeros(vec![5, 3, 4, 8]),
            ))),
            ..RunOptions::default()
        };
        let report = parse("").run_with(&mut model, &options, &mut ())?;
        assert_eq!(report.before.macs, report.after.macs);
        Ok((report.after.macs, model))
    };
    let one = 2 * 3 * 4 * 8;
    let (macs, model) = run(convolution("f32[N,3,H,W]")).unwrap();
    assert_eq!(macs, Some(one), "of one sample");
    let input: Value = model.graph.inputs()[0].into();
    assert_eq!(
        model.graph.ty(input).to_string(),
        "f32[N,3,H,W]",
        "no size is frozen"
    );
    let (macs, _) = run(convolution("f32[7,3,H,W]")).unwrap();
    assert_eq!(macs, Some(7 * one), "a batch that is a number stays");
    let mut bound = convolution("f32[N,3,H,W]");
    bind_inputs(&mut bound.graph, &["2x3x4x8".parse().unwrap()]).unwrap();
    assert_eq!(run(bound).unwrap().0, Some(2 * one), "as does one given");
    let error = run(relus(1)).unwrap_err();
    assert!(error.to_string().contains("does not fit"), "{error}");
}

#[test]
fn a_thread_count_that_was_asked_for_is_used() {
    static THREADS: PassInfo = PassInfo {
        name: "threads",
        summary: "say how many threads there are",
        kind: Kind::Exact,
        options: &[],
        build: |_| {
            Ok(Box::new(FromFn {
                info: &THREADS,
                kind: Kind::Exact,
                run: |_, context| {
                    context.analysis("", rayon::current_num_threads().to_string());
                    Ok(Changed::No)
                },
            }))
        },
    };
    let pipeline = registry().with(&THREADS).parse("threads").unwrap();
    for threads in [1, 3] {
        let options = RunOptions {
            threads,
            ..RunOptions::default()
        };
        let report = pipeline.run_with(&mut relus(1), &options, &mut ()).unwrap();
        assert_eq!(report.passes[0].remarks[0].text, threads.to_string());
    }
}
