//! Operators that optc does not know: what is behind them is measured where a runtime runs them.

mod common;

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use optc::analysis::calibration::{refit, result_moments};
use optc::data::{InputSamples, Samples};
use optc::exec::{Foreign, Frontier, Sampled, unknown_operators};
use optc::ir::{DType, Dialect, Graph, Tensor};
use optc::pipeline::{Pipeline, RunOptions};
use optc::{Model, judge};

/// The model as it is read from an ONNX file, and what runs its operators; nothing where ONNX Runtime is not here.
fn onnx(text: &str) -> Option<(Model, Arc<dyn Foreign>)> {
    if !common::has_onnxruntime() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    optc::write(&Model::new(text.parse().unwrap()), &path).unwrap();
    let model = optc::read(&path).unwrap();
    let foreign = judge::operators(&model).unwrap().unwrap();
    Some((model, foreign))
}

fn waves(shape: &[usize]) -> ArrayD<f32> {
    let mut k = 0.0f32;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        k += 1.0;
        (k * 0.37).sin() + (k * k * 0.011).cos()
    })
}

fn sampled(samples: Samples, foreign: &Arc<dyn Foreign>) -> Sampled {
    Sampled {
        foreign: Some(foreign.clone()),
        ..Sampled::from(samples)
    }
}

/// What the network returns on samples.
fn outputs(graph: &Graph, sampled: &Sampled) -> optc::Result<Vec<f32>> {
    let output = graph.outputs()[0].value;
    let mut frontier = Frontier::new(graph, sampled)?;
    frontier.hold(output);
    frontier.run_past(graph, output.node)?;
    let arrays = frontier.arrays(graph, output)?;
    let arrays: optc::Result<Vec<_>> = arrays.iter().map(|x| x.read()).collect();
    Ok(arrays?.iter().flatten().copied().collect())
}

const RECURRENT: &str = r#"
    graph net(%x: f32[N,T,8]) {
      @a.weight = parameter normal(1) : f32[6,8]
      @w = parameter normal(2) : f32[1,20,6]
      @r = parameter normal(3) : f32[1,20,5]
      @b.weight = parameter normal(4) : f32[3,5]
      %a = linear(%x, @a.weight)
      %steps = transpose(%a) {perm=[1,0,2]}
      %lstm = opaque "onnx::LSTM"(%steps, @w, @r) {template="{\"op\":\"LSTM\",\"inputs\":[0,1,2],\"outputs\":1,\"attributes\":{\"hidden_size\":5}}", dialect=onnx} : f32[T,1,N,5]
      %only = squeeze(%lstm) {axes=[1]}
      %b = linear(%only, @b.weight)
      return %b
    }"#;

#[test]
fn a_layer_behind_a_recurrent_one_is_fitted_whatever_the_number_of_threads() {
    let Some((model, foreign)) = onnx(RECURRENT) else {
        return;
    };
    let original = &model.graph;
    let sampled = sampled(Samples::of_array("here", &waves(&[40, 7, 8])), &foreign);
    let fitted = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            let mut changed = original.clone();
            let layer = changed.find("b").unwrap();
            let weight = changed.operand_elements(layer, 1);
            changed.set_operand_elements(layer, 1, weight.iter().map(|w| 1.3 * w).collect());
            let fit = refit(
                original,
                &mut changed,
                &sampled,
                &mut |_, _| false,
                &mut |_, _| Ok(()),
            );
            let error = fit.unwrap().fitted[0].error;
            assert!(error[0] > 0.1 && error[1] < 0.01, "{error:?}");
            changed.operand_elements(layer, 1)
        })
    };
    let bits = |threads| {
        fitted(threads)
            .iter()
            .map(|w: &f64| w.to_bits())
            .collect::<Vec<_>>()
    };
    let one = bits(1);
    assert_eq!(one, bits(2));
    assert_eq!(one, bits(4));
}

#[test]
fn without_a_runtime_the_operator_is_named() {
    let graph: Graph = RECURRENT.parse().unwrap();
    let samples = Samples::of_array("here", &waves(&[2, 7, 8]));
    let error = outputs(&graph, &samples.into()).unwrap_err().to_string();
    assert!(error.contains("onnx::LSTM"), "{error}");
}

#[test]
fn whole_numbers_and_truth_values_stay_what_they_are_between_foreign_operators() {
    let text = r#"
        graph net(%ids: i64[N,T], %x: f32[N,T,2]) {
          @table = parameter [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]] : f32[3,2]
          @one = parameter [1] : i64[1]
          @none = parameter [0.0] : f32[1]
          %rows = opaque "onnx::Gather"(@table, %ids) {template="{\"op\":\"Gather\",\"inputs\":[0,1],\"outputs\":1}", dialect=onnx} : f32[N,T,2]
          %is_one = opaque "onnx::Equal"(%ids, @one) {template="{\"op\":\"Equal\",\"inputs\":[0,1],\"outputs\":1}", dialect=onnx} : bool[N,T]
          %wide = unsqueeze(%is_one) {axes=[2]}
          %kept = opaque "onnx::Where"(%wide, %rows, @none) {template="{\"op\":\"Where\",\"inputs\":[0,1,2],\"outputs\":1}", dialect=onnx} : f32[N,T,2]
          %y = add(%kept, %x)
          return %y
        }"#;
    let Some((model, foreign)) = onnx(text) else {
        return;
    };
    let input = |name: &str, samples: Vec<Tensor>| InputSamples {
        name: name.into(),
        whole: false,
        samples,
    };
    let ids = |ids: &[f64]| Tensor::from_f64(DType::I64, &[ids.len()], ids.iter().copied());
    let zeros = |n: usize| Tensor::from_f64(DType::F32, &[n, 2], vec![0.0; 2 * n]);
    // Two lengths, and so two runs.
    let samples = Samples {
        inputs: vec![
            input("ids", vec![ids(&[0.0, 1.0]), ids(&[1.0, 2.0, 1.0])]),
            input("x", vec![zeros(2), zeros(3)]),
        ],
        ..Samples::of_array("here", &waves(&[0, 2]))
    };
    let found = outputs(&model.graph, &sampled(samples, &foreign)).unwrap();
    assert_eq!(found, [0.0, 0.0, 2.0, 3.0, 2.0, 3.0, 0.0, 0.0, 2.0, 3.0]);
}

#[test]
fn a_pipeline_learns_from_samples_behind_what_it_does_not_know() {
    let text = r#"
        graph net(%x: f32[1,3,8,8]) {
          @a.weight = parameter normal(1) : f32[8,3,3,3]
          @b.weight = parameter normal(2) : f32[8,8,3,3]
          %a = conv(%x, @a.weight)
          %gate = opaque "onnx::HardSigmoid"(%a) {template="{\"op\":\"HardSigmoid\",\"inputs\":[0],\"outputs\":1,\"attributes\":{\"alpha\":0.2,\"beta\":0.5}}", dialect=onnx} : f32[1,8,6,6]
          %b = conv(%gate, @b.weight)
          return %b
        }"#;
    let Some((mut model, foreign)) = onnx(text) else {
        return;
    };
    let samples = Samples::of_array("here", &waves(&[12, 3, 8, 8]));
    // By hand: what the gate lets through has a mean between 0 and 1.
    let gate = outputs(&model.graph, &sampled(samples.clone(), &foreign));
    assert_eq!(gate.unwrap().len(), 12 * 8 * 4 * 4);
    let layer = model.graph.find("b").unwrap();
    let all = sampled(samples.clone(), &foreign);
    let moments = result_moments(&model.graph, &[layer], &all, &mut |_, _| Ok(())).unwrap();
    assert!(moments[&layer].mean.iter().all(|mean| mean.is_finite()));
    let options = RunOptions {
        samples: Some(samples.into()),
        foreign: Some(foreign),
        ..RunOptions::default()
    };
    let pipeline = Pipeline::parse("lrf{ratio=0.3}").unwrap();
    let report = pipeline.run_with(&mut model, &options, &mut ()).unwrap();
    let calibration = report.calibration.unwrap();
    assert!(
        calibration.used && calibration.missed.is_empty(),
        "{calibration:?}"
    );
    assert!(
        calibration.run_by.contains("ONNX Runtime"),
        "{}",
        calibration.run_by
    );
}

/// A branch that reads values from around it, a function of the model's own, a recurrent layer of which one result is left out, and
/// a quantised one.
#[test]
fn branches_and_functions_are_run() {
    if !common::has_onnxruntime() {
        return;
    }
    let model = optc::read("tests/fixtures/onnx/structured.onnx").unwrap();
    let foreign = judge::operators(&model).unwrap().unwrap();
    assert!(unknown_operators(&model.graph, None).len() > 4);
    assert!(unknown_operators(&model.graph, Some(&*foreign)).is_empty());
    let samples = Samples::of_array("here", &waves(&[5, 4]));
    let found = outputs(&model.graph, &sampled(samples, &foreign)).unwrap();
    assert_eq!(found.len(), 5 * 6);
    // The scale of the quantised layer is 0.1.
    let steps = |x: &f32| (10.0 * x - (10.0 * x).round()).abs() < 1e-3;
    assert!(found.iter().all(steps), "{found:?}");
    assert!(found.iter().any(|x| *x != 0.0));
}

/// The same operators as PyTorch has them.
#[test]
fn an_exported_program_is_run_without_any_runtime() {
    let program = |target: &str, inputs: &str| {
        format!(
            r#"{{template="{{\"target\":\"torch.ops.{target}\",\"inputs\":[{}],\"outputs\":[]}}", dialect=exported_program}}"#,
            inputs.replace('"', "\\\"")
        )
    };
    let tensor = |name: &str, at: usize| {
        format!(r#"{{"name":"{name}","arg":{{"as_tensor":{{"name":"{{{at}}}"}}}}}}"#)
    };
    let embedding = [tensor("weight", 0), tensor("indices", 1)].join(",");
    let one = format!(
        r#"{},{{"name":"other","arg":{{"as_int":1}}}}"#,
        tensor("self", 0)
    );
    let masked = [
        tensor("self", 0),
        tensor("mask", 1),
        r#"{"name":"value","arg":{"as_float":-1.0}}"#.to_string(),
    ];
    let text = format!(
        r#"graph net(%ids: i64[N,T]) {{
          @table = parameter [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]] : f32[3,2]
          %rows = opaque "aten::embedding.default"(@table, %ids) {} : f32[N,T,2]
          %is_one = opaque "aten::eq.Scalar"(%ids) {} : bool[N,T]
          %wide = unsqueeze(%is_one) {{axes=[2]}}
          %y = opaque "aten::masked_fill.Scalar"(%rows, %wide) {} : f32[N,T,2]
          return %y
        }}"#,
        program("aten.embedding.default", &embedding),
        program("aten.eq.Scalar", &one),
        program("aten.masked_fill.Scalar", &masked.join(",")),
    );
    let graph: Graph = text.parse().unwrap();
    let foreign = judge::operators_of(Dialect::ExportedProgram).unwrap();
    let ids = Tensor::from_f64(DType::I64, &[3], [2.0, 1.0, 0.0]);
    let mut samples = Samples::of_array("here", &waves(&[0, 3]));
    samples.inputs[0].samples.push(ids);
    let found = outputs(&graph, &sampled(samples, &foreign)).unwrap();
    assert_eq!(found, [4.0, 5.0, -1.0, -1.0, 0.0, 1.0]);
}

#[test]
fn linear_layers_behind_such_operators_lose_what_samples_do_not_show() {
    let text = r#"
        graph net(%x: f32[N,32]) {
          @a.weight = parameter normal(1) : f32[32,32]
          @n.weight = parameter normal(2) : f32[4,32]
          @b.weight = parameter normal(3) : f32[32,4]
          @c.weight = parameter normal(4) : f32[32,32]
          %narrow = linear(%x, @n.weight)
          %wide = linear(%narrow, @b.weight)
          %gate = opaque "onnx::HardSigmoid"(%wide) {template="{\"op\":\"HardSigmoid\",\"inputs\":[0],\"outputs\":1,\"attributes\":{\"alpha\":0.02,\"beta\":0.5}}", dialect=onnx} : f32[N,32]
          %a = linear(%gate, @a.weight)
          %relu = relu(%a)
          %c = linear(%relu, @c.weight)
          return %c
        }"#;
    let Some((mut model, foreign)) = onnx(text) else {
        return;
    };
    let options = RunOptions {
        samples: Some(Samples::of_array("here", &waves(&[64, 32])).into()),
        foreign: Some(foreign),
        ..RunOptions::default()
    };
    let pipeline = Pipeline::parse("lrf{error=0.05,scope=all}").unwrap();
    let report = pipeline.run_with(&mut model, &options, &mut ()).unwrap();
    // What the gate hardly bends is made of four neurons.
    let (before, after) = (report.before.macs, report.after.macs);
    assert!(before.is_some() && after < before, "{before:?} {after:?}");
    assert!(report.calibration.unwrap().used);
}
