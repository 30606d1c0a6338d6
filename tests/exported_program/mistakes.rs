//! Programs that are damaged, of another kind, or of another time: what is said about them.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::*;

/// The nodes of a program.
fn nodes(program: &mut Json) -> &mut Vec<Json> {
    program["graph_module"]["graph"]["nodes"]
        .as_array_mut()
        .unwrap()
}

/// A damaged or unwelcome program, and what is done to it.
type Mistake = (&'static str, fn(&mut Package));

const MISTAKES: &[Mistake] = &[
    ("compiled", |p| {
        p.entries
            .insert("data/aotinductor/model/model.so".to_owned(), Vec::new());
    }),
    ("no program", |p| {
        p.entries.remove("models/model.json");
    }),
    ("two programs", |p| {
        let program = p.entries["models/model.json"].clone();
        p.entries.insert("models/other.json".to_owned(), program);
    }),
    ("no weights", |p| {
        p.entries.remove("data/weights/model_weights_config.json");
    }),
    ("no such weight", |p| {
        p.edit_json("data/weights/model_weights_config.json", |config| {
            config["config"]
                .as_object_mut()
                .unwrap()
                .remove("head.bias");
        });
    }),
    ("no such entry", |p| {
        p.edit_json("data/weights/model_weights_config.json", |config| {
            config["config"]["head.bias"]["path_name"] = "weight_99".into();
        });
    }),
    ("big-endian", |p| {
        p.entries.insert("byteorder".to_owned(), b"big".to_vec());
    }),
    ("no JSON", |p| {
        p.entries
            .insert("models/model.json".to_owned(), b"{\"a\": [1, 2".to_vec());
    }),
    ("deep JSON", |p| {
        p.entries.insert(
            "models/model.json".to_owned(),
            [b"{\"a\": ", &[b'['; 100_000][..]].concat(),
        );
    }),
    ("other JSON", |p| {
        p.edit(|program| program["graph_module"]["graph"]["nodes"] = "none".into());
    }),
    ("later schema", |p| {
        p.edit(|program| program["schema_version"]["major"] = 9.into());
    }),
    ("earlier schema", |p| {
        p.edit(|program| program["schema_version"] = json!({"major": 5, "minor": 1}));
    }),
    ("pickled weight", |p| {
        p.edit_json("data/weights/model_weights_config.json", |config| {
            config["config"]["head.bias"]["use_pickle"] = true.into();
        });
    }),
    ("sparse weight", |p| {
        p.edit_json("data/weights/model_weights_config.json", |config| {
            config["config"]["head.bias"]["tensor_meta"]["layout"] = 1.into();
        });
    }),
    ("complex weight", |p| {
        p.edit_json("data/weights/model_weights_config.json", |config| {
            config["config"]["head.bias"]["tensor_meta"]["dtype"] = 10.into();
        });
    }),
    ("weight past its payload", |p| {
        p.edit_json("data/weights/model_weights_config.json", |config| {
            config["config"]["head.bias"]["tensor_meta"]["sizes"] = json!([{"as_int": 1_000_000}]);
        });
    }),
    ("weight of overflowing sizes", |p| {
        p.edit_json("data/weights/model_weights_config.json", |config| {
            let meta = &mut config["config"]["head.bias"]["tensor_meta"];
            meta["sizes"] = json!([{"as_int": i64::MAX}, {"as_int": i64::MAX}]);
            meta["strides"] = json!([{"as_int": i64::MAX}, {"as_int": 1}]);
        });
    }),
    ("weight of negative stride", |p| {
        p.edit_json("data/weights/model_weights_config.json", |config| {
            config["config"]["head.bias"]["tensor_meta"]["strides"] = json!([{"as_int": -1}]);
        });
    }),
    ("weight of fewer strides than sizes", |p| {
        p.edit_json("data/weights/model_weights_config.json", |config| {
            config["config"]["head.bias"]["tensor_meta"]["strides"] = json!([]);
        });
    }),
    ("weight of other sizes than the graph", |p| {
        p.edit(|program| {
            program["graph_module"]["graph"]["tensor_values"]["p_head_bias"]["sizes"] =
                json!([{"as_int": 4}]);
        });
    }),
    ("use before definition", |p| {
        p.edit(|program| nodes(program).swap(0, 1));
    }),
    ("cycle", |p| {
        p.edit(|program| {
            let own = nodes(program)[1]["outputs"][0].clone();
            nodes(program)[1]["inputs"][0]["arg"] = own;
        });
    }),
    ("computed twice", |p| {
        p.edit(|program| {
            let first = nodes(program)[0].clone();
            nodes(program).insert(1, first);
        });
    }),
    ("no sizes", |p| {
        p.edit(|program| {
            program["graph_module"]["graph"]["tensor_values"]
                .as_object_mut()
                .unwrap()
                .remove("conv2d_1");
        });
    }),
    ("sizes that are none", |p| {
        p.edit(|program| {
            program["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0] = "N".into();
        });
    }),
    ("argument that is none", |p| {
        p.edit(|program| nodes(program)[0]["inputs"][3]["arg"] = 3.into());
    }),
    ("signature of fewer inputs", |p| {
        p.edit(|program| {
            program["graph_module"]["signature"]["input_specs"]
                .as_array_mut()
                .unwrap()
                .pop();
        });
    }),
    ("input twice", |p| {
        p.edit(|program| {
            let specs = &mut program["graph_module"]["signature"]["input_specs"];
            specs[1] = specs[0].clone();
        });
    }),
    ("custom object", |p| {
        p.edit(|program| {
            program["graph_module"]["signature"]["input_specs"][0] =
                json!({"custom_obj": {"arg": {"name": "obj", "class_fqn": "a.B"}, "custom_obj_name": "queue"}});
        });
    }),
    ("unknown input", |p| {
        p.edit(|program| {
            program["graph_module"]["signature"]["input_specs"][0] = json!({"stream": {}});
        });
    }),
    ("complex input", |p| {
        p.edit(|program| {
            program["graph_module"]["graph"]["tensor_values"]["x"]["dtype"] = 10.into();
        });
    }),
    ("state that is written", |p| {
        p.edit(|program| {
            let module = &mut program["graph_module"];
            let output = module["graph"]["outputs"][0].clone();
            module["signature"]["output_specs"][0] =
                json!({"buffer_mutation": {"arg": output["as_tensor"], "buffer_name": "stem.1.running_mean"}});
        });
    }),
    ("state that is written in place", |p| {
        p.edit(|program| {
            nodes(program)[0]["target"] = "torch.ops.aten.relu_.default".into();
            nodes(program)[0]["inputs"] =
                json!([{"name": "self", "arg": {"as_tensor": {"name": "p_pick"}}, "kind": 1}]);
        });
    }),
    ("training", |p| {
        p.edit(|program| nodes(program)[1]["inputs"][5]["arg"] = json!({"as_bool": true}));
    }),
    ("gradients", |p| {
        p.edit(|program| {
            let module = &mut program["graph_module"];
            let output = module["graph"]["outputs"][0].clone();
            module["signature"]["output_specs"][0] =
                json!({"loss_output": {"arg": output["as_tensor"]}});
        });
    }),
    ("state dict", |p| {
        p.entries = [("data.pkl".to_owned(), b"\x80\x02}.".to_vec())].into();
    }),
];

#[test]
fn every_mistake_in_a_program_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pt2");
    let good = Package::open(&fixture("exported"));
    let mut text = String::new();
    for (name, spoil) in MISTAKES {
        let mut package = good.clone();
        spoil(&mut package);
        fs::write(&path, package.bytes()).unwrap();
        let said = match optc::read(&path) {
            Ok(model) => panic!("{name} is read as {}", model.graph),
            Err(error) => error.to_string(),
        };
        let said = said.replace(&format!("{}/", folder.path().display()), "");
        let _ = writeln!(text, "# {name}\n{said}\n");
    }
    common::snapshot("errors/exported_program", &text);
}

#[test]
fn a_later_minor_version_is_read_and_what_it_adds_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (path, out) = (folder.path().join("net.pt2"), folder.path().join("out.pt2"));
    let mut package = Package::open(&fixture("exported"));
    package.edit(|program| {
        program["schema_version"]["minor"] = 99.into();
        nodes(program)[0]["new"] = json!({"as": "yet"});
        program["graph_module"]["graph"]["tensor_values"]["x"]["new"] = json!([1]);
    });
    fs::write(&path, package.bytes()).unwrap();
    optc::write(&optc::read(&path).unwrap(), &out).unwrap();
    let written = Package::open(&out).program();
    assert_eq!(written["schema_version"]["minor"], 99);
    assert_eq!(
        written["graph_module"]["graph"]["tensor_values"]["x"]["new"],
        json!([1])
    );
}

#[test]
fn a_node_whose_result_is_not_what_its_operator_gives_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.pt2");
    let mut package = Package::open(&fixture("exported"));
    package.edit(|program| {
        program["graph_module"]["graph"]["tensor_values"]["mean"]["dtype"] = 8.into();
    });
    fs::write(&path, package.bytes()).unwrap();
    let graph = optc::read(&path).unwrap().graph;
    let node = graph.find("mean").unwrap();
    assert!(
        matches!(graph.op(node), Some(Op::Opaque(opaque)) if &*opaque.name == "aten::mean.dim")
    );
    assert_eq!(graph.ty(node.into()).to_string(), "f64[1,8]");
}
