//! Passes that compete under one budget, one of a stranger among them.

use std::sync::Arc;

use optc::analysis::Statistics;
use optc::ir::Graph;
use optc::pipeline::{
    Changed, Kind, Lot, Method, Offer, Pass, PassContext, PassInfo, Registry, RunOptions, Unit,
};
use optc::{Error, Model, Pipeline, Result, Samples};

/// Makes the weight of every layer smaller for nothing, which costs nothing, and says that it loses nothing.
struct Halve;

static HALVE: PassInfo = PassInfo {
    name: "halve",
    summary: "halve weights",
    kind: Kind::Lossy,
    options: &[],
    build: |_| Ok(Box::new(Halve)),
};

impl Pass for Halve {
    fn info(&self) -> &'static PassInfo {
        &HALVE
    }
    fn method(&self) -> Option<Arc<dyn Method>> {
        Some(Arc::new(Halve))
    }
    fn run(&self, _: &mut Graph, _: &mut PassContext<'_>) -> Result<Changed> {
        Ok(Changed::No)
    }
}

impl Method for Halve {
    fn name(&self) -> &'static str {
        HALVE.name
    }
    fn offers(&self, graph: &Graph, _: &Statistics, _: &mut PassContext<'_>) -> Result<Vec<Lot>> {
        let layer = graph.find("b").unwrap();
        let apply = move |graph: &mut Graph| {
            let weight = graph.operands(layer)[1].node;
            let tensor = graph.constant(weight).unwrap().tensor.clone();
            let halves: Vec<f32> = tensor.elements::<f32>().iter().map(|w| w / 2.0).collect();
            let shape = tensor.shape().to_vec();
            graph.set_tensor(weight, optc::ir::Tensor::from_vec(&shape, halves));
            Ok(())
        };
        let offer = Offer {
            what: "half of it".to_string(),
            losses: vec![(layer, 1e-9)],
            costs: vec![(layer, 0.1)],
            apply: Box::new(apply),
        };
        Ok(vec![Lot {
            of: Unit::Layer(layer),
            offers: vec![offer],
        }])
    }
}

const NET: &str = "
    graph net(%x: f32[2,4,8,8]) {
      @a.weight = parameter normal(1, 0.2) : f32[16,4,3,3]
      @b.weight = parameter normal(2, 0.1) : f32[16,16,3,3]
      @c.weight = parameter normal(3, 0.2) : f32[4,16,1,1]
      %a = conv(%x, @a.weight) {pad=[1,1]}
      %relu = relu(%a)
      %b = conv(%relu, @b.weight) {pad=[1,1]}
      %relu2 = relu(%b)
      %c = conv(%relu2, @c.weight)
      return %c
    }";

fn network() -> Model {
    Model::new(NET.parse().unwrap())
}

fn samples() -> Arc<Samples> {
    let mut random = fastrand::Rng::with_seed(3);
    let element = |_| random.f32() * 2.0 - 1.0;
    let elements: Vec<f32> = (0..24 * 4 * 64).map(element).collect();
    let rows = ndarray::Array::from_shape_vec(vec![24, 4, 8, 8], elements).unwrap();
    Arc::new(Samples::of_array("noise", &rows))
}

fn run(pipeline: &Pipeline, model: &mut Model) -> Result<optc::Report> {
    let options = RunOptions {
        samples: Some(samples()),
        ..RunOptions::default()
    };
    pipeline.run_with(model, &options, &mut ())
}

#[test]
fn a_method_of_a_stranger_competes_with_the_others() {
    let registry = Registry::standard().with(&HALVE);
    let pipeline = registry.parse("within{macs=0.6}(cut,halve)").unwrap();
    let mut model = network();
    let report = run(&pipeline, &mut model).unwrap();
    let remarks = &report.passes[0].remarks;
    let won = remarks
        .iter()
        .any(|r| r.text.starts_with("halve: half of it"));
    assert!(won, "{remarks:?}");
    let printed = pipeline.to_string();
    assert_eq!(printed, "within{macs=0.6}(cut,halve)");
}

#[test]
fn a_target_is_met_and_nearly_so() {
    for methods in ["red", "lrf", "lowrank", "cut", "red,lrf,lowrank,cut"] {
        let pipeline = Pipeline::parse(&format!("within{{macs=0.7}}({methods})")).unwrap();
        let mut model = network();
        let report = run(&pipeline, &mut model).unwrap();
        let [before, after] = [&report.before, &report.after].map(|stats| stats.macs.unwrap());
        let kept = after as f64 / before as f64;
        assert!((0.5..=0.7).contains(&kept), "{methods}: {kept}");
    }
}

#[test]
fn what_cannot_be_reached_is_said_with_what_can() {
    let pipeline = Pipeline::parse("within{macs=0.01}(lowrank)").unwrap();
    let error = run(&pipeline, &mut network()).unwrap_err();
    assert!(
        error.to_string().contains("macs=0.01 cannot be reached"),
        "{error}"
    );
}

#[test]
fn as_much_of_the_answers_is_kept_as_asked() {
    let pipeline = Pipeline::parse("within{cosine=0.99}(lowrank,cut)").unwrap();
    let mut model = network();
    let before = model.graph.clone();
    let report = run(&pipeline, &mut model).unwrap();
    assert!(report.after.macs < report.before.macs);
    let [a, b] = [&before, &model.graph].map(|graph| {
        let interpreter = optc::exec::Interpreter::<f32>::new(graph).unwrap();
        let input = samples().stacked().unwrap();
        let input = input
            .slice(ndarray::s![..2, .., .., ..])
            .to_owned()
            .into_dyn();
        let outputs = interpreter.run(vec![input.into()]).unwrap();
        outputs.into_iter().next().unwrap().into_owned()
    });
    let dot = |a: &ndarray::ArrayD<f32>, b: &ndarray::ArrayD<f32>| (a * b).sum();
    let cosine = dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt();
    assert!(cosine >= 0.985, "{cosine}");
}

#[test]
fn without_samples_nobody_can_say_what_is_kept() {
    let pipeline = Pipeline::parse("within{agreement=0.99}(cut)").unwrap();
    let error = pipeline.run(&mut network()).unwrap_err();
    let Error::Pass { source, .. } = &error else {
        panic!("{error}")
    };
    assert!(matches!(**source, Error::Usage { .. }), "{error}");
}

#[test]
fn a_network_that_nobody_can_run_is_left_as_it_is() {
    let text = NET.replace(
        "return %c",
        "%what = opaque \"onnx::What\"(%c) {template=\"{}\", dialect=onnx} : f32[2,4,8,8]\n  return %what",
    );
    let mut model = Model::new(text.parse().unwrap());
    let before = model.graph.to_string();
    let pipeline = Pipeline::parse("within{agreement=0.99}(lowrank,cut)").unwrap();
    let report = run(&pipeline, &mut model).unwrap();
    assert_eq!(model.graph.to_string(), before);
    let said = report.to_json();
    assert!(said.contains("onnx::What"), "{said}");
}

#[test]
fn a_goal_is_one() {
    for text in [
        "within(cut)",
        "within{macs=0.5,time=0.5}(cut)",
        "within{macs=0.5}",
        "within{macs=0.5}(canonicalize)",
        "within{macs=0.5}(lrf{ratio=0.5})",
    ] {
        let Err(error) = Pipeline::parse(text) else {
            panic!("{text}")
        };
        assert!(matches!(error, Error::Text { .. }), "{error}");
    }
    let deep = "within{macs=0.5}(".repeat(100_000);
    assert!(Pipeline::parse(&deep).is_err());
}
