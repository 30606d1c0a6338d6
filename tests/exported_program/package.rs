//! Archives of programs, taken apart and put together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::Path;

use serde_json::Value as Json;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// The program of every package here.
const PROGRAM: &str = "models/model.json";

/// The entries of an archive, without its root folder.
#[derive(Clone)]
pub struct Package {
    pub entries: BTreeMap<String, Vec<u8>>,
}

impl Package {
    pub fn open(path: &Path) -> Package {
        let mut archive = ZipArchive::new(Cursor::new(fs::read(path).unwrap())).unwrap();
        let mut entries = BTreeMap::new();
        for i in 0..archive.len() {
            let mut entry = archive.by_index(i).unwrap();
            let name = entry.name().unwrap().into_owned();
            // Those of PyTorch 2.7 and earlier have no root folder.
            let name = if name.starts_with("serialized") || name == "version" {
                name
            } else {
                name.split_once('/').unwrap().1.to_owned()
            };
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            entries.insert(name, bytes);
        }
        Package { entries }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        for (name, bytes) in &self.entries {
            archive.start_file(format!("net/{name}"), options).unwrap();
            archive.write_all(bytes).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    pub fn json(&self, name: &str) -> Json {
        // PyTorch 2.6 prints this as Python does.
        let text = String::from_utf8_lossy(&self.entries[name]).replace(":-Infinity", ":null");
        serde_json::from_str(&text).unwrap()
    }

    pub fn program(&self) -> Json {
        let flat = "serialized_exported_program.json";
        self.json(if self.entries.contains_key(flat) {
            flat
        } else {
            PROGRAM
        })
    }

    /// The fields of the program's nodes and of their arguments.
    pub fn fields(&self) -> BTreeSet<String> {
        let program = self.program();
        let nodes = array(&program["graph_module"]["graph"]["nodes"]);
        let objects = nodes.flat_map(|node| array(&node["inputs"]).chain([node]));
        objects
            .flat_map(|object| object.as_object().unwrap().keys().cloned())
            .collect()
    }

    /// Changes the program.
    pub fn edit(&mut self, change: impl FnOnce(&mut Json)) {
        self.edit_json(PROGRAM, change);
    }

    /// Changes an entry that is JSON.
    pub fn edit_json(&mut self, name: &str, change: impl FnOnce(&mut Json)) {
        let mut json = self.json(name);
        change(&mut json);
        self.entries
            .insert(name.to_owned(), serde_json::to_vec(&json).unwrap());
    }

    /// The program as a reader of its nodes sees it: inputs, calls with the types of their results, outputs.
    pub fn outline(&self) -> String {
        let program = self.program();
        let graph = &program["graph_module"]["graph"];
        let mut text = String::new();
        let _ = writeln!(text, "{}", program["verifiers"]);
        for (input, spec) in
            array(&graph["inputs"]).zip(array(&program["graph_module"]["signature"]["input_specs"]))
        {
            let (kind, spec) = tagged(spec);
            let names = ["parameter_name", "buffer_name", "tensor_constant_name"];
            let name = names
                .iter()
                .find_map(|name| spec.get(*name)?.as_str())
                .unwrap_or_default();
            let _ = writeln!(text, "{kind} {} {name}", typed(graph, input));
        }
        for node in array(&graph["nodes"]) {
            let results: Vec<String> = array(&node["outputs"])
                .map(|output| typed(graph, output))
                .collect();
            let arguments = array(&node["inputs"]).map(|input| {
                format!(
                    "{}={}",
                    input["name"].as_str().unwrap(),
                    argument(&input["arg"])
                )
            });
            let target = node["target"]
                .as_str()
                .unwrap()
                .trim_start_matches("torch.ops.");
            let _ = writeln!(
                text,
                "{} = {target}({})",
                results.join(", "),
                arguments.collect::<Vec<_>>().join(", ")
            );
        }
        let outputs = array(&graph["outputs"]).map(argument);
        let _ = writeln!(text, "return {}", outputs.collect::<Vec<_>>().join(", "));
        text
    }
}

fn array(json: &Json) -> impl Iterator<Item = &Json> {
    json.as_array().into_iter().flatten()
}

fn tagged(json: &Json) -> (&str, &Json) {
    let (tag, content) = json.as_object().unwrap().iter().next().unwrap();
    (tag, content)
}

/// An argument as Python has it.
fn argument(json: &Json) -> String {
    let list = |json: &Json| {
        format!(
            "[{}]",
            array(json).map(argument).collect::<Vec<_>>().join(", ")
        )
    };
    match json {
        Json::Object(fields) if fields.contains_key("name") => {
            fields["name"].as_str().unwrap().to_owned()
        }
        Json::Object(_) => match tagged(json) {
            ("as_none", _) => "None".to_owned(),
            ("as_name", name) => name.as_str().unwrap().to_owned(),
            (_, content) => argument(content),
        },
        Json::Array(_) => list(json),
        other => other.to_string(),
    }
}

/// A value's name, and what the program says of its sizes.
fn typed(graph: &Json, json: &Json) -> String {
    let name = argument(json);
    let size = |size: &Json| match tagged(size) {
        ("as_int", n) => n.to_string(),
        (_, expression) => expression["expr_str"]
            .as_str()
            .unwrap()
            .replace(", positive=True, integer=True", ""),
    };
    match graph["tensor_values"].get(&name) {
        Some(meta) => {
            let sizes: Vec<String> = array(&meta["sizes"]).map(size).collect();
            format!("{name}[{}]", sizes.join(","))
        }
        None => name,
    }
}
