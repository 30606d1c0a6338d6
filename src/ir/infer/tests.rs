use super::*;
use indexmap::IndexMap;

/// The printed type of `op` with these printed attributes on operands of these printed types, or the error.
fn typed(op: &str, attributes: &[(&str, &str)], operands: &[&str]) -> String {
    let mut attributes: IndexMap<String, String> = attributes
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    let op = Op::parse(op, &mut attributes).unwrap();
    let types: Vec<Type> = operands.iter().map(|t| t.parse().unwrap()).collect();
    match infer(&op, &types.iter().collect::<Vec<_>>()) {
        Ok(types) => types[0].to_string(),
        Err(error) => format!("error: {error}"),
    }
}

const CONV2: [(&str, &str); 4] = [
    ("stride", "[2,2]"),
    ("pad", "[1,1]"),
    ("dilation", "[1,1]"),
    ("groups", "1"),
];

#[test]
fn a_strided_convolution_and_a_strided_slice_give_equal_sizes() {
    let conv = typed("conv", &CONV2, &["f32[N,16,H,W]", "f32[32,16,3,3]"]);
    let half = |axis: &str, size: &str, x: &str| {
        let attributes = [("axis", axis), ("start", "0"), ("end", size), ("step", "2")];
        typed("slice", &attributes, &[x])
    };
    let rows = half("2", "H", "f32[N,16,H,W]");
    let both = half("3", "W", &rows);
    let pads = [
        ("before", "[0,8,0,0]"),
        ("after", "[0,8,0,0]"),
        ("mode", "constant"),
        ("value", "0.0"),
    ];
    let shortcut = typed("pad", &pads, &[&both]);
    assert_eq!(shortcut, conv);
    assert_eq!(typed("add", &[], &[&conv, &shortcut]), conv);
}

#[test]
fn numbers_win_over_symbols_and_the_left_symbol_over_the_right() {
    assert_eq!(typed("add", &[], &["f32[N,H]", "f32[M,4]"]), "f32[N,4]");
    assert_eq!(typed("mul", &[], &["f32[N,1,7]", "f32[C,1]"]), "f32[N,C,7]");
    assert_eq!(typed("add", &[], &["f32[N]", "f32[*]"]), "f32[*]");
    assert_eq!(
        typed("add", &[], &["f32[3]", "f32[4]"]),
        "error: the sizes of axis 0 differ: 3 and 4, and neither is 1"
    );
}

#[test]
fn a_scalar_takes_the_type_of_the_others() {
    assert_eq!(typed("mul", &[], &["f16[N]", "f64[]"]), "f16[N]");
    assert_eq!(typed("mul", &[], &["i64[]", "f32[N]"]), "f32[N]");
    assert_eq!(
        typed("mul", &[], &["i64[N]", "f32[]"]),
        "error: element types i64 and f32 differ: cast one"
    );
    assert_eq!(
        typed("div", &[], &["i64[N]", "i64[]"]),
        "error: div computes in floating point, not in i64: cast first"
    );
    assert_eq!(typed("cast", &[("dtype", "f16")], &["i64[N]"]), "f16[N]");
}

#[test]
fn a_convolution_checks_channels_groups_bias_and_extent() {
    let conv = |operands: &[&str]| typed("conv", &CONV2, operands);
    assert_eq!(
        conv(&["f32[N,C,32,32]", "f32[8,3,3,3]", "f32[8]"]),
        "f32[N,8,16,16]"
    );
    assert_eq!(
        conv(&["f32[N,4,8,8]", "f32[8,3,3,3]"]),
        "error: the channels of the input and those that the weight reads differ: 4 and 3"
    );
    assert_eq!(
        conv(&["f32[N,3,8,8]", "f32[8,3,3,3]", "f32[9]"]),
        "error: the bias has shape [9], not [8]"
    );
    assert_eq!(
        conv(&["f32[N,3,1,1]", "f32[8,3,5,5]"]),
        "error: the kernel is larger than the padded input"
    );
    let grouped = [&CONV2[..3], &[("groups", "3")]].concat();
    assert_eq!(
        typed("conv", &grouped, &["f32[N,6,8,8]", "f32[8,2,3,3]"]),
        "error: 8 output channels cannot be split into 3 groups"
    );
    let zero = [&[("stride", "[0,1]")], &CONV2[1..]].concat();
    assert_eq!(
        typed("conv", &zero, &["f32[*]", "f32[*]"]),
        "error: stride is 0"
    );
}

#[test]
fn a_transposed_convolution_undoes_the_sizes_of_a_convolution() {
    let attributes = [&CONV2[..2], &[("output_pad", "[1,1]")], &CONV2[2..]].concat();
    assert_eq!(
        typed(
            "conv_transpose",
            &attributes,
            &["f32[N,8,H,16]", "f32[8,4,3,3]"]
        ),
        "f32[N,4,2*H,32]"
    );
}

#[test]
fn pools_count_windows_as_libtorch_does() {
    let pool = |size: &str, k: &str, s: &str, p: &str, ceil: &str| {
        let attributes = [
            ("kernel", k),
            ("stride", s),
            ("pad", p),
            ("dilation", "[1]"),
            ("ceil", ceil),
        ];
        typed("max_pool", &attributes, &[&format!("f32[N,4,{size}]")])
    };
    assert_eq!(pool("112", "[3]", "[2]", "[1]", "false"), "f32[N,4,56]");
    assert_eq!(pool("112", "[3]", "[2]", "[0]", "true"), "f32[N,4,56]");
    assert_eq!(pool("7", "[2]", "[2]", "[0]", "true"), "f32[N,4,4]");
    assert_eq!(pool("5", "[1]", "[3]", "[0]", "true"), "f32[N,4,2]");
    assert_eq!(pool("4", "[1]", "[3]", "[0]", "true"), "f32[N,4,2]");
    assert_eq!(pool("3", "[1]", "[3]", "[0]", "true"), "f32[N,4,1]");
    assert_eq!(pool("W", "[W]", "[W]", "[0]", "false"), "f32[N,4,1]");
    assert_eq!(
        pool("8", "[2]", "[2]", "[2]", "false"),
        "error: a pad of 2 leaves a window of 2 without a sample"
    );
}

#[test]
fn moving_elements_keeps_their_number() {
    let flatten = [("start", "1"), ("end", "3")];
    assert_eq!(
        typed("flatten", &flatten, &["f32[N,C,H,7]"]),
        "f32[N,7*C*H]"
    );
    assert_eq!(
        typed(
            "reshape",
            &[("shape", "[N,2,floor(C/2),7]")],
            &["f32[N,C,7]"]
        ),
        "f32[N,2,floor(C/2),7]"
    );
    assert_eq!(
        typed("reshape", &[("shape", "[N,5]")], &["f32[2,3]"]),
        "f32[N,5]"
    );
    assert_eq!(
        typed("reshape", &[("shape", "[5]")], &["f32[2,3]"]),
        "error: 6 elements as 5: [2, 3] as [5]"
    );
    assert_eq!(
        typed("transpose", &[("perm", "[0,2,1]")], &["f32[N,C,H]"]),
        "f32[N,H,C]"
    );
    assert_eq!(
        typed("transpose", &[("perm", "[0,0]")], &["f32[N,C]"]),
        "error: perm names axis 0 twice"
    );
    assert_eq!(
        typed("unsqueeze", &[("axes", "[0,2]")], &["f32[N]"]),
        "f32[1,N,1]"
    );
    assert_eq!(
        typed("squeeze", &[("axes", "[0,2]")], &["f32[1,N,1]"]),
        "f32[N]"
    );
    assert_eq!(
        typed("expand", &[("shape", "[B,N,4]")], &["f32[1,4]"]),
        "f32[B,N,4]"
    );
    assert_eq!(
        typed("concat", &[("axis", "1")], &["f32[N,C,H]", "f32[M,3,8]"]),
        "f32[N,C+3,8]"
    );
    assert_eq!(
        typed(
            "gather",
            &[("axis", "1"), ("index", "[0..3,9]")],
            &["f32[N,8]"]
        ),
        "error: position 9 of an axis of size 8"
    );
}

#[test]
fn products_and_attention_broadcast_their_batches() {
    assert_eq!(
        typed("matmul", &[], &["f32[B,1,L,E]", "f32[H,E,S]"]),
        "f32[B,H,L,S]"
    );
    let attributes = [("scale", "none"), ("causal", "false")];
    assert_eq!(
        typed(
            "attention",
            &attributes,
            &["f32[B,H,L,E]", "f32[B,H,S,E]", "f32[B,H,S,F]", "f32[L,S]"]
        ),
        "f32[B,H,L,F]"
    );
    assert_eq!(
        typed("linear", &[], &["f32[N,T,8]", "f32[4,8]", "f32[4]"]),
        "f32[N,T,4]"
    );
    assert_eq!(
        typed("linear", &[], &["f32[N,7]", "f32[4,8]"]),
        "error: the features of the input and those that the weight reads differ: 7 and 8"
    );
}

#[test]
fn sizes_near_the_largest_number_do_not_overflow() {
    let huge = i64::MAX.to_string();
    let x = format!("f32[{huge},{huge},{huge}]");
    for (op, attributes) in [
        ("flatten", vec![("start", "0"), ("end", "2")]),
        ("reshape", vec![("shape", "[4]")]),
        ("mean", vec![("axes", "[1]"), ("keep", "true")]),
    ] {
        typed(op, &attributes, &[&x]);
    }
    typed("matmul", &[], &[&x, &x]);
    let conv = [
        ("stride", "[1]"),
        ("pad", "[18446744073709551615]"),
        ("dilation", "[18446744073709551615]"),
        ("groups", "18446744073709551615"),
    ];
    typed("conv", &conv, &[&x, &x]);
}
