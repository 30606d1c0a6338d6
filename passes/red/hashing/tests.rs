use super::*;

/// Numbers that look normal, the same on every run.
fn normal(n: usize) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(n as u64);
    (0..n)
        .map(|_| (0..12).map(|_| random.f32()).sum::<f32>() - 6.0)
        .collect()
}

fn hashed(weights: Vec<f32>, error: f64) -> (Vec<f32>, usize, f64) {
    let shape = [weights.len()];
    match hash_weights(&Tensor::from_vec(&shape, weights), error) {
        Outcome::Hashed {
            tensor,
            modes,
            relative_error,
            ..
        } => (tensor.elements().to_vec(), modes, relative_error),
        Outcome::Unchanged { reason } => panic!("{reason}"),
    }
}

fn reason(weights: Vec<f32>, error: f64) -> String {
    let shape = [weights.len()];
    match hash_weights(&Tensor::from_vec(&shape, weights), error) {
        Outcome::Unchanged { reason } => reason,
        Outcome::Hashed { modes, .. } => panic!("hashed to {modes} modes"),
    }
}

fn distinct(weights: &[f32]) -> usize {
    let mut bits: Vec<u32> = weights.iter().map(|w| w.to_bits()).collect();
    bits.sort();
    bits.dedup();
    bits.len()
}

#[test]
fn clear_modes_are_found() {
    let centres = [-2.0, 0.5, 3.0];
    let noise = normal(3000);
    let weights: Vec<f32> = noise
        .iter()
        .enumerate()
        .map(|(i, x)| centres[i % 3] + 0.01 * x)
        .collect();
    let (hashed, modes, error) = hashed(weights, 0.02);
    assert_eq!(modes, 3);
    assert!(error <= 0.02, "{error}");
    for (i, w) in hashed.iter().enumerate() {
        assert!(
            (w - centres[i % 3]).abs() < 0.1,
            "{w} for {}",
            centres[i % 3]
        );
    }
}

#[test]
fn the_error_is_within_the_budget_and_uses_it() {
    for n in [64, 1000, 100_000] {
        for budget in [0.3, 0.02, 0.005] {
            let weights = normal(n);
            let (after, modes, error) = hashed(weights.clone(), budget);
            let (mut difference, mut norm) = (0.0, 0.0);
            for (a, b) in weights.iter().zip(&after) {
                difference += f64::from(a - b).powi(2);
                norm += f64::from(*a).powi(2);
            }
            let measured = (difference / norm).sqrt();
            assert!((measured - error).abs() < 1e-6 && error <= budget);
            assert!(n < 1000 || error > 0.6 * budget, "{n} {budget}: {error}");
            assert_eq!(distinct(&after), modes);
        }
    }
}

#[test]
fn zeros_stay_zero_and_do_not_count() {
    let mut weights = normal(2000);
    weights.iter_mut().step_by(2).for_each(|w| *w = 0.0);
    let (after, ..) = hashed(weights.clone(), 0.02);
    for (w, h) in weights.iter().zip(&after) {
        assert!(*w != 0.0 || *h == 0.0, "{w} became {h}");
    }
    weights.iter_mut().for_each(|w| *w = 0.0);
    assert_eq!(reason(weights, 0.02), "fewer than 32 weights");
}

#[test]
fn what_has_no_modes_is_left_alone() {
    assert_eq!(reason(normal(20), 0.02), "fewer than 32 weights");
    assert_eq!(reason(Vec::new(), 0.02), "fewer than 32 weights");
    assert_eq!(reason(vec![0.7; 100], 0.02), "all weights are equal");
    assert_eq!(
        reason(vec![f32::NAN; 100], 0.02),
        "a weight is NaN, infinite or huge"
    );
    let mut infinite = normal(100);
    infinite[3] = f32::INFINITY;
    assert_eq!(reason(infinite, 0.02), "a weight is NaN, infinite or huge");
    assert_eq!(reason(normal(1000), 2.0), "all weights would become one");
    let mut far = normal(1000);
    far.iter_mut().for_each(|w| *w *= 1e-12);
    far[0] = 1.0;
    far[1] = 2.0;
    assert_eq!(
        reason(far, 1e-13),
        "the weights spread too far: 262144 cells do not keep the error within 0.0000000000001"
    );
}

#[test]
fn an_outlier_does_not_hide_the_rest() {
    let mut weights = normal(10_000);
    weights[17] = 40.0;
    let (after, modes, error) = hashed(weights, 0.02);
    assert!(modes > 20 && error <= 0.02);
    assert!((after[17] - 40.0).abs() < 0.1);
}

#[test]
fn weights_of_half_precision_stay_so() {
    let weights = normal(1000).into_iter().map(f64::from);
    let tensor = Tensor::from_f64(DType::F16, &[1000], weights);
    let Outcome::Hashed { tensor, modes, .. } = hash_weights(&tensor, 0.02) else {
        panic!("not hashed");
    };
    assert_eq!(tensor.dtype(), DType::F16);
    assert_eq!(distinct(&tensor.elements::<f32>()), modes);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let tensor = Tensor::from_vec(&[50_000], normal(50_000));
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        match pool.unwrap().install(|| hash_weights(&tensor, 0.02)) {
            Outcome::Hashed { tensor, .. } => tensor.bytes().to_vec(),
            Outcome::Unchanged { reason } => panic!("{reason}"),
        }
    };
    assert_eq!(on(1), on(3));
}
