//! The program around the nodes: inputs, outputs and their signature, in place of the one that was read or from scratch.

use indexmap::IndexMap;
use serde_json::{Map, Value as Json, json};

use super::Writer;
use super::state::Layout;
use crate::formats::exported_program::package::MAJOR;
use crate::formats::exported_program::schema::{
    Graph, GraphModule, ModuleCall, Program, Signature, Version, name_of, tag, tensor,
};
use crate::formats::exported_program::source::Placeholder;
use crate::ir::Value;

/// The minor version of the schema that new programs are of.
const MINOR: i64 = 8;

impl Writer<'_> {
    /// The program, all but the archive's other entries.
    pub(super) fn program(&mut self, layout: &Layout, outputs: Vec<Json>) -> Program {
        let mut inputs = Vec::new();
        let mut input_specs = Vec::new();
        for entry in layout.entries.iter().filter(|entry| entry.is_input) {
            inputs.push(tensor(entry.state.placeholder.as_str()));
            input_specs.push(entry.spec());
        }
        let own: Vec<Placeholder> = (0..self.graph.inputs().len())
            .map(Placeholder::Input)
            .collect();
        let placeholders = self
            .source
            .map_or(own.as_slice(), |source| &source.placeholders);
        for (i, placeholder) in placeholders.iter().enumerate() {
            let original = self.source.map(|source| &source.program.graph_module);
            match (placeholder, original) {
                (Placeholder::State, _) => {}
                (_, Some(original)) => {
                    inputs.extend(original.graph.inputs.get(i).cloned());
                    input_specs.extend(original.signature.input_specs.get(i).cloned());
                }
                (_, None) => {
                    let input = self
                        .graph
                        .inputs()
                        .get(i)
                        .and_then(|input| self.names.get(&Value::from(*input)));
                    let argument = tensor(input.map_or("", String::as_str));
                    input_specs.push(tag("user_input", tag("arg", argument.clone())));
                    inputs.push(argument);
                }
            }
        }
        let output_specs = outputs
            .iter()
            .map(|output| tag("user_output", tag("arg", output.clone())))
            .collect();
        let mut program = match self.source {
            Some(source) => source.program.clone(),
            None => self.new_program(outputs.len()),
        };
        let module = &mut program.graph_module;
        module.graph.inputs = inputs;
        module.graph.outputs = outputs;
        module.graph.nodes = std::mem::take(&mut self.nodes);
        module.graph.tensor_values = std::mem::take(&mut self.tensor_values);
        module.graph.sym_int_values = std::mem::take(&mut self.sym_int_values);
        module.signature.input_specs = input_specs;
        module.signature.output_specs = output_specs;
        // How a module inside was called holds only as long as its inputs and outputs are there.
        let values = &module.graph.tensor_values;
        for call in module
            .module_call_graph
            .iter_mut()
            .filter(|call| !call.fqn.is_empty())
        {
            let lists = ["inputs", "outputs"]
                .into_iter()
                .filter_map(|list| call.signature.get(list)?.as_array());
            let names: Vec<&str> = lists.flatten().filter_map(name_of).collect();
            if names.iter().any(|name| !values.contains_key(*name)) {
                call.signature = Json::Null;
            }
        }
        program
    }

    /// A program for a graph that was read from another format, without its graph.
    fn new_program(&self, outputs: usize) -> Program {
        let users: Vec<&str> = self
            .graph
            .inputs()
            .iter()
            .filter_map(|i| Some(self.names.get(&Value::from(*i))?.as_str()))
            .collect();
        let leaf = json!({"type": null, "context": null, "children_spec": []});
        let tuple = |n: usize| json!({"type": "builtins.tuple", "context": "null", "children_spec": vec![leaf.clone(); n]});
        let keywords = json!({"type": "builtins.dict", "context": "[]", "children_spec": []});
        let arguments = json!({"type": "builtins.tuple", "context": "null", "children_spec": [tuple(users.len()), keywords]});
        let result = if outputs == 1 {
            leaf.clone()
        } else {
            tuple(outputs)
        };
        let signature = json!({
            "inputs": [],
            "outputs": [],
            "in_spec": json!([1, arguments]).to_string(),
            "out_spec": json!([1, result]).to_string(),
            "forward_arg_names": users,
        });
        let object = |json: Json| match json {
            Json::Object(fields) => fields,
            _ => Map::new(),
        };
        let ranges = self.symbols.constructors.values().map(|text| {
            let name = text.split('\'').nth(1).unwrap_or_default();
            (name.to_owned(), json!({"min_val": 1, "max_val": null}))
        });
        Program {
            graph_module: GraphModule {
                graph: Graph {
                    inputs: Vec::new(),
                    outputs: Vec::new(),
                    nodes: Vec::new(),
                    tensor_values: IndexMap::new(),
                    sym_int_values: IndexMap::new(),
                    other: object(json!({
                        "sym_bool_values": {},
                        "is_single_tensor_return": false,
                        "custom_obj_values": {},
                        "sym_float_values": {},
                    })),
                },
                signature: Signature {
                    input_specs: Vec::new(),
                    output_specs: Vec::new(),
                    other: Map::new(),
                },
                module_call_graph: vec![ModuleCall {
                    fqn: String::new(),
                    signature,
                    other: Map::new(),
                }],
                other: object(json!({"metadata": {}, "treespec_namedtuple_fields": {}})),
            },
            range_constraints: ranges.collect(),
            schema_version: Version {
                major: MAJOR,
                minor: MINOR,
            },
            verifiers: vec!["TRAINING".to_owned()],
            other: object(json!({
                "opset_version": {"aten": 10},
                "torch_version": "2.11.0",
                "guards_code": [],
            })),
        }
    }
}
