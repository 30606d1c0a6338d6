use super::super::{DType, Graph, Role, Tensor};
use super::*;

fn graph(text: &str) -> Graph {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn error(text: &str) -> String {
    text.parse::<Graph>().unwrap_err().to_string()
}

fn elements(graph: &Graph, name: &str) -> Vec<f64> {
    let node = graph.find(name).unwrap();
    graph.constant(node).unwrap().tensor.elements().into_owned()
}

/// A net of one line on `@w`.
fn with_constant(value: &str) -> String {
    format!("graph g(%x: f32[N]) {{ @w = parameter {value} return %x, @w }}")
}

const NET: &str = r##"graph "my net"(%x: f32[N,2,H,W], %"second input": i64[*]) where N=1, H=32 {
  @conv1.weight = parameter [[[[0.5]], [[-1.0]]], [[[3.0]], [[1e-7]]]] : f32[2,2,1,1]
  @conv1.bias = buffer 0.0 alias "tied to.bias", other : f32[2]
  %conv1 = conv(%x, @conv1.weight, @conv1.bias) {stride=[2,1], pad=[1:0,0]} : f32[N,2,floor(H/2)+1,W]
  %"a, b" = opaque "aten::split \"it\""(%conv1, %"second input") {template="torch.split({0}, {$0}, 1)\n", sizes=[2*H,W], dialect=onnx} : f32[*], other"List[int]"
  %relu = relu(%"a, b") : f32[*]
  %barrier = opaque "prim::Print"(%"a, b"#1) {template="print({0})"}
  %last = slice(%conv1) {axis=3, end=W, step=2} : f32[N,2,floor(H/2)+1,floor((W+1)/2)]
  @half = literal 0.5 : f16[]
  return %relu, list=%"a, b"#1, "odd name"=%last, h=@half
}
"##;

#[test]
fn a_text_is_printed_as_it_is_read() {
    assert_eq!(format!("{:#}", graph(NET)), NET);
}

#[test]
fn constants_come_before_their_first_reader_and_unread_ones_last() {
    let text = "graph g(%x: f32[N]) {
        @c = literal 3.0 : f32[]
        @b = literal 2.0 : f32[]
        @a = literal 1.0 : f32[]
        %s = add(@a, %x) // reads only a
        %t = add(%s, @c)
        return %t
    }";
    let printed = graph(text).to_string();
    let names: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim())
        .collect();
    assert_eq!(names, ["@a", "%s", "@c", "%t", "@b"]);
    assert_eq!(graph(&printed).to_string(), printed);
}

#[test]
fn elided_elements_come_from_the_graph_that_has_them() {
    let full = graph(&with_constant("normal(7) : f32[4,3]"));
    let text = full.to_string();
    assert!(text.contains("@w = parameter #"), "{text}");
    let read = parse(&text, &full).unwrap();
    assert_eq!(elements(&read, "w"), elements(&full, "w"));
    assert!(error(&text).contains("the elements of this constant are not in the text"));
}

#[test]
fn every_element_is_read_back_as_it_was() {
    let values = [
        0.1,
        -1e-40,
        65504.0,
        1.0 / 3.0,
        f64::NAN,
        f64::INFINITY,
        0.0,
        -0.0,
    ];
    for (dtype, _) in DType::ALL {
        let mut before = Graph::new("g");
        let constant =
            super::super::Constant::new(Tensor::from_f64(dtype, &[2, 4], values), Role::Buffer);
        before.add_constant("c", constant);
        let after = graph(&format!("{before:#}"));
        let tensor = |graph: &Graph| {
            let node = graph.find("c").unwrap();
            graph.constant(node).unwrap().tensor.clone()
        };
        assert_eq!(tensor(&before), tensor(&after), "{dtype}");
    }
}

#[test]
fn rows_and_columns_repeat_scale_and_clear_what_they_name() {
    let g = graph(&with_constant(
        "rows([[1, 2], [3, 4]], [0, 1, 0, -2*1, 0.0*0]) : f32[5,2]",
    ));
    assert_eq!(
        elements(&g, "w"),
        [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, -6.0, -8.0, 0.0, 0.0]
    );
    let g = graph(&with_constant(
        "columns(rows([[1, 2]], [0, 2*0]), [1, 1, 0]) : f32[2,3]",
    ));
    assert_eq!(elements(&g, "w"), [2.0, 2.0, 1.0, 4.0, 4.0, 2.0]);
    let random = graph(&with_constant("normal(3, 0.1) : f32[1000]"));
    let values = elements(&random, "w");
    let variance = values.iter().map(|x| x * x).sum::<f64>() / 1000.0;
    assert!((variance - 0.01).abs() < 2e-3, "{variance}");
    let random = graph(&with_constant("uniform(3, 0.5, 2.0) : f32[1000]"));
    assert!(
        elements(&random, "w")
            .iter()
            .all(|x| (0.5..2.0).contains(x))
    );
}

#[test]
fn a_mistake_is_pointed_at() {
    assert_eq!(
        error("graph g(%x: f32[N,3]) {\n  %y = rellu(%x)\n  return %y\n}"),
        "line 2: there is no operator `rellu`\n    %y = rellu(%x)\n         ^\n  is `relu` meant?"
    );
    assert_eq!(
        error("graph g(%x: f32[N,3]) {\n  %y = relu(%x) : f32[N,4]\n  return %y\n}"),
        "line 2: the type is f32[N,3]\n    %y = relu(%x) : f32[N,4]\n                  ^"
    );
}

#[test]
fn masks_are_printed_in_full_or_as_hashes_and_read_back() {
    let small = graph(&with_constant("normal(1) mask [1, 0, 1, 0] : f32[4]"));
    assert_eq!(elements(&small, "w")[1], 0.0);
    let large = graph(&with_constant(
        "normal(1) mask rows(columns(1, [0, 0.0*0, 0]), [0, 0, 0.0*0, 0]) alias v : f32[4,3]",
    ));
    let mask = |graph: &Graph| graph.mask(graph.find("w").unwrap()).cloned().unwrap();
    assert_eq!(mask(&large).count(), 6);
    for graph in [&small, &large] {
        let full = format!("{graph:#}");
        let read: Graph = full.parse().unwrap();
        assert_eq!((format!("{read:#}"), mask(&read)), (full, mask(graph)));
        let read = parse(&graph.to_string(), graph).unwrap();
        assert_eq!(mask(&read), mask(graph));
    }
    let line = |graph: &Graph| super::statement(graph, graph.find("w").unwrap());
    assert_eq!(
        [line(&small), line(&large)],
        [
            "@w = parameter [-0.39036548, 0.0, -1.574183, 0.0] mask [1, 0, 1, 0] : f32[4]",
            "@w = parameter #881fc011 mask #6e42c775 alias v : f32[4,3] // 50.0 % masked",
        ]
    );
    let whole = graph(&with_constant("normal(1) mask 1 : f32[9]"));
    assert_eq!((mask(&whole).count(), mask(&whole).len()), (9, 9));
    assert!(line(&whole).ends_with("mask 1 : f32[9] // 0.0 % masked"));
    let wrong = error(&with_constant("normal(1) mask [1, 0] : f32[3]"));
    assert!(wrong.contains("2 elements for the shape [3]"), "{wrong}");
}
