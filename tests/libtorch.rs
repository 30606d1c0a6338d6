//! What only libtorch can say: that files open there, run, and agree with one another.
#![cfg(feature = "torch")]

mod torch;

use torch::{Network, compare, here, normal, shared, top1};

#[test]
fn the_example_takes_any_batch() {
    let network = Network::open(here("examples/shapes.pt"));
    for batch in [1, 8] {
        let output = network.run(&normal(&[batch, 3, 32, 32], 0));
        assert_eq!(output.size(), [batch, 10]);
    }
}

#[test]
fn the_example_is_trained() {
    let network = Network::open(here("examples/shapes.pt"));
    let share = top1(&network, &here("examples/shapes_test.npz"));
    assert!(share > 0.95, "{share}");
}

#[test]
fn the_example_keeps_its_batch_norms_for_us_to_fold() {
    let names: Vec<_> = Network::open(here("examples/shapes.pt"))
        .parameters()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(
        names.contains(&"stage1.0.bn1.weight".to_owned()),
        "{names:?}"
    );
}

#[test]
fn a_file_agrees_with_itself() {
    let file = here("examples/shapes.pt");
    let difference = compare(&file, &file, &[2, 3, 32, 32], 4);
    assert_eq!(difference.max_rel, 0.0);
    assert_eq!(difference.argmax_agreement, 1.0);
}

#[test]
fn a_changed_weight_is_noticed() {
    let file = here("examples/shapes.pt");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let changed = folder.path().join("changed.pt");
    Network::open(&file).save_scaled("fc.weight", 1.01, &changed);
    let difference = compare(&file, &changed, &[2, 3, 32, 32], 4);
    assert!((1e-3..1e-1).contains(&difference.max_rel), "{difference:?}");
}

#[test]
fn traced_and_frozen_exports_of_one_network_agree() {
    for depth in ["resnet20", "resnet56"] {
        let file = |kind: &str| shared(&format!("data/cifar10_resnet/{depth}{kind}.pt"));
        let (Some(traced), Some(frozen)) = (file(""), file(".frozen")) else {
            return;
        };
        let difference = compare(&traced, &frozen, &[8, 3, 32, 32], 2);
        assert!(difference.max_rel < 1e-5, "{depth}: {difference:?}");
    }
}
