//! Extraction from e-graphs: the optimum against all choices there are, and the greedy choice against the optimum.

use std::path::Path;

use optc::egraph::extract::{Candidate, Cost, Problem};
use optc::egraph::{Bounds, explore, lower};
use optc::formats::{InputShape, ReadOptions, read_with};
use optc::passes::rules;
use optc::pipeline;

/// More than any problem here takes.
const STEPS: u64 = 100_000_000;

/// The least cost of all choices, one after the other.
fn by_enumeration(problem: &Problem) -> Option<Cost> {
    let counts: Vec<usize> = problem.classes.iter().map(Vec::len).collect();
    let choices: usize = counts.iter().product();
    let choice = |mut i: usize| -> Vec<usize> {
        let digit = |n: &usize| {
            let digit = i % n;
            i /= n;
            digit
        };
        counts.iter().map(digit).collect()
    };
    (0..choices).filter_map(|i| problem.cost(&choice(i))).min()
}

/// A problem of `classes` classes; some terms lead back up a little, so that there are cycles.
fn random(classes: usize, seed: u64) -> Problem {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut candidate = |class: usize, leaf: bool| {
        let children = if leaf { 0 } else { random.usize(1..4) };
        let child = |_| match random.u8(0..8) {
            0 => random.usize(class.saturating_sub(3)..classes.min(class + 3)),
            _ => random.usize(class + 1..classes.min(class + 6)),
        };
        let children = (0..children).map(child).collect();
        Candidate {
            cost: Cost::from(random.u32(0..20)) << 64,
            children,
        }
    };
    let mut class = |class: usize| {
        if class + 1 == classes {
            return vec![candidate(class, true)];
        }
        let made = 1 + class % 3;
        let mut all: Vec<Candidate> = (0..made).map(|_| candidate(class, false)).collect();
        if class % 2 == 1 {
            // A way of its own, dear.
            let mut own = candidate(class, true);
            own.cost += 25 << 64;
            all.push(own);
        }
        all
    };
    Problem {
        classes: (0..classes).map(&mut class).collect(),
        roots: vec![0, 1],
    }
}

/// The cost of the optimum, whose terms must have that cost.
fn optimum(problem: &Problem) -> Option<Cost> {
    let choice = problem.optimum(STEPS)?;
    assert_eq!(problem.cost(&choice.term), Some(choice.cost));
    Some(choice.cost)
}

/// How much dearer the greedy choice is than the optimum, as a share of it.
fn gap(problem: &Problem, known: &[Option<usize>], optimum: Cost) -> f64 {
    let greedy = problem
        .greedy(known)
        .expect("what has an optimum has a choice");
    assert_eq!(problem.cost(&greedy.term), Some(greedy.cost));
    assert!(
        greedy.cost >= optimum,
        "{} is less than {optimum}",
        greedy.cost
    );
    (greedy.cost - optimum) as f64 / (optimum as f64).max(1.0)
}

#[test]
fn the_optimum_is_the_cheapest_of_all_choices() {
    for seed in 0..500 {
        let problem = random(9, seed);
        assert_eq!(optimum(&problem), by_enumeration(&problem), "seed {seed}");
    }
}

/// How much dearer than the optimum the greedy choice may be, on average.
const MEAN_GAP: f64 = 0.06;

#[test]
fn the_greedy_choice_is_near_the_optimum_and_never_better() {
    for classes in [12, 30, 60] {
        let mut gaps = Vec::new();
        for seed in 0..200 {
            let problem = random(classes, seed);
            match optimum(&problem) {
                Some(optimum) => gaps.push(gap(&problem, &[], optimum)),
                None => assert_eq!(problem.greedy(&[]), None, "{classes} classes, seed {seed}"),
            }
        }
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!(mean < MEAN_GAP, "{classes} classes: {mean}");
        println!(
            "{classes} classes: {} of {} greedy choices are optimal; {:.2} % over on average, {:.0} % at worst",
            gaps.iter().filter(|gap| **gap == 0.0).count(),
            gaps.len(),
            100.0 * mean,
            100.0 * gaps.iter().copied().fold(0.0, f64::max)
        );
    }
}

#[test]
fn what_takes_too_many_steps_is_left_to_the_greedy_choice() {
    let problem = random(60, 1);
    assert!(problem.optimum(STEPS).is_some());
    assert_eq!(problem.optimum(100), None);
    assert!(problem.greedy(&[]).is_some());
}

#[test]
fn the_cheapest_graph_of_a_network_is_found() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let real = here.join("../shared/data/cifar10_resnet");
    for path in [
        here.join("examples/shapes.pt"),
        real.join("resnet20.pt"),
        real.join("resnet56.pt"),
    ] {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !path.exists() {
            println!("{name} is not there: skipped");
            continue;
        }
        let options = ReadOptions {
            inputs: vec!["1x3x32x32".parse::<InputShape>().unwrap()],
        };
        let graph = read_with(&path, &options).unwrap().graph;
        let explored = explore(lower(&graph).unwrap(), rules::ALL, Bounds::default());
        for cost in [pipeline::Cost::Macs, pipeline::Cost::Params] {
            let (problem, known) = explored.problem(&graph, &cost, 0);
            let optimum = optimum(&problem).expect("a network's values are few at a time");
            assert_eq!(problem.extract(&known).unwrap().cost, optimum);
            println!(
                "{name}, {cost:?}: {} classes, {} terms; the greedy choice is {:.3} % over the optimum",
                problem.classes.len(),
                problem.classes.iter().map(Vec::len).sum::<usize>(),
                100.0 * gap(&problem, &known, optimum)
            );
        }
    }
}
