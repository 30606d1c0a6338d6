//! PyTorch itself as the judge of what is written. `OPTC_TORCH_PYTHON` names a Python that has PyTorch 2.11, for example
//! `OPTC_TORCH_PYTHON=python3 cargo test --test exported_program`; without it these tests say that they are skipped.

use std::process::Command;

use super::*;

/// Runs both programs on the same inputs, of several batch sizes if they take them.
const COMPARE: &str = r#"
import logging, sys, warnings
import torch
import torch.utils._pytree as pytree
warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
def flat(result):
    return [leaf if isinstance(leaf, torch.Tensor) else torch.tensor(leaf) for leaf in pytree.tree_leaves(result)]
before, after = (torch.export.load(path) for path in sys.argv[1:3])
torch.manual_seed(0)
worst = 0.0
for batch in [1, 3] if before.range_constraints else [None]:
    def fresh(leaf):
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return torch.rand([batch or leaf.shape[0], *leaf.shape[1:]])
    args = pytree.tree_map(fresh, before.example_inputs[0])
    flat_args = args if len(sys.argv) < 4 else tuple(pytree.tree_leaves(args))
    with torch.no_grad():
        left, right = flat(before.module()(*args)), flat(after.module()(*flat_args))
    assert [x.shape for x in left] == [x.shape for x in right], (left, right)
    worst = max([worst] + [((x - y).abs().max() / x.abs().max()).item() for x, y in zip(left, right)])
assert worst < 1e-4, worst
assert set(after.state_dict) <= set(before.state_dict) or len(sys.argv) > 3 or after.state_dict, after.state_dict.keys()
"#;

/// Has PyTorch open and run two programs; `false` where there is none.
fn judge(before: &Path, after: &Path) -> bool {
    let Some(python) = std::env::var_os("OPTC_TORCH_PYTHON") else {
        println!("OPTC_TORCH_PYTHON is not set: skipped");
        return false;
    };
    let run = Command::new(python)
        .arg("-c")
        .arg(COMPARE)
        .arg(before)
        .arg(after)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(
        run.status.success(),
        "{} and {}: {said}",
        before.display(),
        after.display()
    );
    true
}

#[test]
fn pytorch_opens_what_is_written_and_it_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pt2");
    for name in NAMES.into_iter().chain(["of_2_6", "of_2_8"]) {
        for passes in ["canonicalize", "red{hash=none}"] {
            let mut model = optc::read(fixture(name)).unwrap();
            Pipeline::parse(passes).unwrap().run(&mut model).unwrap();
            optc::write(&model, &path).unwrap();
            if !judge(&fixture(name), &path) {
                return;
            }
        }
    }
}

#[test]
fn pytorch_opens_a_program_that_was_torchscript() {
    let folder = tempfile::tempdir().unwrap();
    let (script, path) = (folder.path().join("net.pt"), folder.path().join("out.pt2"));
    for name in ["exported", "dynamic", "decomposed"] {
        optc::write(&optc::read(fixture(name)).unwrap(), &script).unwrap();
        optc::write(&optc::read(&script).unwrap(), &path).unwrap();
        if !judge(&fixture(name), &path) {
            return;
        }
    }
}
