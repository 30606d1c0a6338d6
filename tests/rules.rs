//! The harness that proves every rule: both sides of each, on random instances, in double precision.

use egg::Id;
use ndarray::{ArrayD, IxDyn};
use optc::egraph::instance::Instance;
use optc::egraph::term::{EGraph, Facts, Term};
use optc::egraph::{Rewriter, Rule, raise};
use optc::exec::{Array, Interpreter};
use optc::ir::{DType, Graph, Type};
use optc::passes::rules;

/// Instances that are tried for each rule.
const INSTANCES: u64 = 200;

/// The largest difference, relative to the largest magnitude of the left side.
const TOLERANCE: f64 = 1e-9;

#[test]
fn every_rule_holds_wherever_it_fires() {
    let failures: Vec<String> = rules::ALL
        .iter()
        .filter_map(|rule| prove(*rule).err())
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn rules_have_distinct_names() {
    let mut names: Vec<&str> = rules::ALL.iter().map(|rule| rule.name()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), rules::ALL.len());
}

/// Applies the rule to random instances and compares every alternative with the term it is said to equal.
fn prove(rule: &'static dyn Rule) -> Result<(), String> {
    let mut fired = 0;
    for seed in 0..INSTANCES {
        let mut egraph = EGraph::new(Facts::default());
        let site = rule.instance(&mut Instance::new(&mut egraph, seed));
        egraph.rebuild();
        let terms: Vec<Term> = egraph[site].nodes.clone();
        for term in terms.iter().filter(|term| rule.starts(&term.head)) {
            let alternatives = rule.apply(&mut Rewriter::new(&mut egraph, Some(site)), term);
            for alternative in alternatives {
                if alternative == site {
                    return Err(format!(
                        "{} (seed {seed}): gives back the term itself",
                        rule.name()
                    ));
                }
                fired += 1;
                let context = |what: String| format!("{} (seed {seed}): {what}", rule.name());
                compare(&egraph, site, alternative).map_err(context)?;
            }
        }
    }
    // Most instances are made for the rule, so nearly all must be caught.
    if fired < INSTANCES / 2 {
        return Err(format!(
            "{} fired {fired} times in {INSTANCES} instances",
            rule.name()
        ));
    }
    Ok(())
}

fn compare(egraph: &EGraph, left: Id, right: Id) -> Result<(), String> {
    let (a, b) = (run(egraph, left)?, run(egraph, right)?);
    if a.shape() != b.shape() {
        return Err(format!("shapes {:?} and {:?}", a.shape(), b.shape()));
    }
    let scale = a.iter().fold(1e-300, |m: f64, x| m.max(x.abs()));
    let error = a
        .iter()
        .zip(&b)
        .fold(0.0, |m: f64, (x, y)| m.max((x - y).abs()))
        / scale;
    if error.is_nan() || error > TOLERANCE {
        Err(format!("sides differ by {error:e}"))
    } else {
        Ok(())
    }
}

/// The value of a class, nothing having been united: each class has one term.
fn run(egraph: &EGraph, root: Id) -> Result<ArrayD<f64>, String> {
    let mut interface = Graph::new("side");
    for (i, ty) in egraph.analysis.inputs.iter().enumerate() {
        interface.add_input(&format!("x{i}"), ty.clone());
    }
    let scratch = interface.add_input("out", Type::tensor(DType::F64, []));
    interface.add_output("out", scratch.into());
    let graph = raise(egraph, &interface, &[root], |id| egraph[id].nodes.first())?.graph;
    let inputs: Vec<Array<'_, f64>> = graph
        .inputs()
        .iter()
        .enumerate()
        .map(|(i, node)| {
            let shape: Vec<usize> = graph
                .ty((*node).into())
                .shape()
                .unwrap()
                .iter()
                .map(|n| n.as_len().unwrap())
                .collect();
            // A smooth function of the position that no symmetry of the rules hides behind.
            let n = shape.iter().product::<usize>();
            let values = (0..n)
                .map(|k| ((k * 37 + i * 11) as f64 * 0.618).sin())
                .collect();
            Array::Shared(
                ArrayD::from_shape_vec(IxDyn(&shape), values)
                    .unwrap()
                    .into_shared(),
            )
        })
        .collect();
    let outputs = Interpreter::new(&graph)
        .and_then(|i| i.run(inputs))
        .map_err(|e| e.to_string())?;
    Ok(outputs.into_iter().next().ok_or("no output")?.into_owned())
}
