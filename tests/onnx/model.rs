//! ONNX models made by hand, message by message.

/// A message under construction; see the field numbers in ONNX's `onnx.proto`.
#[derive(Clone, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
    }

    pub fn int(mut self, field: u64, n: i64) -> Message {
        self.varint(field << 3);
        self.varint(n as u64);
        self
    }

    pub fn float(mut self, field: u64, x: f32) -> Message {
        self.varint(field << 3 | 5);
        self.0.extend(x.to_le_bytes());
        self
    }

    pub fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Message {
        let bytes = bytes.as_ref();
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    pub fn all<'a>(self, field: u64, items: impl IntoIterator<Item = &'a Message>) -> Message {
        let add = |message: Message, item: &Message| message.bytes(field, &item.0);
        items.into_iter().fold(self, add)
    }
}

/// An attribute of a node.
pub enum Attribute<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
    Floats(&'a [f32]),
    Text(&'a str),
    Graph(&'a Message),
}

fn attribute(name: &str, value: &Attribute) -> Message {
    let message = Message::default().bytes(1, name);
    match value {
        Attribute::Float(x) => message.float(2, *x).int(20, 1),
        Attribute::Int(n) => message.int(3, *n).int(20, 2),
        Attribute::Text(text) => message.bytes(4, text).int(20, 3),
        Attribute::Graph(graph) => message.bytes(6, &graph.0).int(20, 5),
        Attribute::Floats(xs) => xs.iter().fold(message, |m, x| m.float(7, *x)).int(20, 6),
        Attribute::Ints(ns) => ns.iter().fold(message, |m, n| m.int(8, *n)).int(20, 7),
    }
}

pub fn node(
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[(&str, Attribute)],
) -> Message {
    let message = inputs.iter().fold(Message::default(), |m, i| m.bytes(1, i));
    let message = outputs
        .iter()
        .fold(message, |m, o| m.bytes(2, o))
        .bytes(4, op);
    let add = |m: Message, (name, value): &(&str, Attribute)| m.bytes(5, attribute(name, value).0);
    attributes.iter().fold(message, add)
}

/// A node of another domain than ONNX's own.
pub fn foreign(domain: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> Message {
    node(op, inputs, outputs, &[]).bytes(7, domain)
}

fn tensor(name: &str, code: i64, dims: &[i64]) -> Message {
    let message = dims.iter().fold(Message::default(), |m, n| m.int(1, *n));
    message.int(2, code).bytes(8, name)
}

/// A tensor of `f32`, its bytes in the message.
pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> Message {
    tensor(name, 1, dims).bytes(9, bytemuck::cast_slice::<f32, u8>(values))
}

/// The same with elements 0.1, 0.2 and so on, as many as it takes.
pub fn counted(name: &str, dims: &[i64]) -> Message {
    let count = dims.iter().product::<i64>();
    let values: Vec<f32> = (0..count).map(|i| 0.1 * (i % 7 + 1) as f32).collect();
    floats(name, dims, &values)
}

/// A list of `i64`.
pub fn ints(name: &str, values: &[i64]) -> Message {
    tensor(name, 7, &[values.len() as i64]).bytes(9, bytemuck::cast_slice::<i64, u8>(values))
}

/// A tensor of any type, with these raw bytes.
pub fn raw(name: &str, code: i64, dims: &[i64], bytes: &[u8]) -> Message {
    tensor(name, code, dims).bytes(9, bytes)
}

/// A tensor of `f32` in another file.
pub fn outside(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> Message {
    let add = |m: Message, (key, value): &(&str, &str)| {
        m.bytes(13, Message::default().bytes(1, key).bytes(2, value).0)
    };
    entries.iter().fold(tensor(name, 1, dims), add).int(14, 1)
}

/// An input or output of `f32` (or of the type with this number): sizes are numbers, names, or `?`.
pub fn value_of(name: &str, code: i64, dims: &[&str]) -> Message {
    let mut shape = Message::default();
    for dim in dims {
        let message = Message::default();
        let dim = match dim.parse::<i64>() {
            Ok(n) => message.int(1, n),
            Err(_) if *dim == "?" => message,
            Err(_) => message.bytes(2, dim),
        };
        shape = shape.bytes(1, dim.0);
    }
    let ty = Message::default().int(1, code).bytes(2, shape.0);
    let ty = Message::default().bytes(1, ty.0);
    Message::default().bytes(1, name).bytes(2, ty.0)
}

pub fn value(name: &str, dims: &[&str]) -> Message {
    value_of(name, 1, dims)
}

/// A graph: nodes, weights, inputs, outputs.
pub fn graph(
    nodes: &[Message],
    weights: &[Message],
    inputs: &[Message],
    outputs: &[Message],
) -> Message {
    let message = Message::default()
        .all(1, nodes)
        .bytes(2, "net")
        .all(5, weights);
    message.all(11, inputs).all(12, outputs)
}

/// A model of this version of the operators.
pub fn model(opset: i64, graph: &Message) -> Vec<u8> {
    let own = Message::default().bytes(1, "").int(2, opset);
    let other = Message::default().bytes(1, "other").int(2, 1);
    let message = Message::default().int(1, 8).bytes(7, &graph.0);
    message.all(8, [&own, &other]).0
}

/// A model of one node on `x`, whose result is returned.
pub fn single(
    opset: i64,
    dims: &[&str],
    weights: &[Message],
    op: &str,
    inputs: &[&str],
    attributes: &[(&str, Attribute)],
) -> Vec<u8> {
    let nodes = [node(op, inputs, &["y"], attributes)];
    let returned = [Message::default().bytes(1, "y")];
    model(
        opset,
        &graph(&nodes, weights, &[value("x", dims)], &returned),
    )
}
