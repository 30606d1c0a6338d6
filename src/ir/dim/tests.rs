use super::*;

fn dim(text: &str) -> Dim {
    text.parse().unwrap()
}

#[test]
fn equal_sizes_have_one_form() {
    assert_eq!(dim("floor((H-1)/2)+1"), dim("floor((H+1)/2)"));
    assert_eq!(dim("floor(floor(H/2)/2)"), dim("floor(H/4)"));
    assert_eq!(dim("2*N*C-N*C"), dim("C*N"));
    assert_eq!(dim("floor((4*N+3)/4)"), dim("N"));
    assert_eq!(dim("N*C*H").floor_div(&dim("H*N")), dim("C"));
    let windows = dim("floor(H/4)*W-floor(H/4)*floor(W/7)+2*H-5");
    let images = dim("3*N") * windows.clone();
    assert_eq!(images.floor_div(&windows), dim("3*N"));
    assert_eq!((-images.clone()).floor_div(&windows), dim("-3*N"));
    assert_ne!((images + dim("N")).floor_div(&windows), dim("3*N"));
    assert_eq!(dim("H-H+3").as_number(), Some(3));
    assert_eq!(dim("H").maximum(&dim("H-1")), dim("H"));
}

#[test]
fn a_symbol_follows_from_a_multiple_of_it_and_from_nothing_less_plain() {
    let linear = |text: &str| {
        let found = dim(text).as_linear();
        found.map(|(symbol, factor, constant)| (symbol.to_string(), factor, constant))
    };
    assert_eq!(linear("H"), Some(("H".to_owned(), 1, 0)));
    assert_eq!(linear("4*H-3"), Some(("H".to_owned(), 4, -3)));
    for text in ["7", "-H", "H*W", "H+W", "H*H", "floor(H/2)", "max(H,2)"] {
        assert_eq!(linear(text), None, "{text}");
    }
}

#[test]
fn a_size_is_read_as_it_is_printed() {
    for text in [
        "N",
        "-H",
        "3",
        "floor((H+1)/2)",
        "2*N*floor(W/7)-4",
        "max(H,W)+1",
        "N*max(1,H-3)",
    ] {
        assert_eq!(dim(&dim(text).to_string()), dim(text), "{text}");
    }
}

#[test]
fn nonsense_is_an_error_and_overflow_saturates() {
    for text in [
        "",
        "1+",
        "floor(3)",
        "9999999999999999999",
        "(",
        "a b",
        &"(".repeat(1000),
    ] {
        assert!(text.parse::<Dim>().is_err(), "{text}");
    }
    assert_eq!(
        (Dim::from(i64::MAX) * Dim::from(3)).as_number(),
        Some(i64::MAX)
    );
    assert_eq!(dim("H").floor_div(&Dim::from(0)).as_number(), Some(0));
    assert_eq!(
        Dim::from(i64::MIN).floor_div(&Dim::from(-1)).as_number(),
        Some(i64::MAX)
    );
}

#[test]
fn a_long_expression_is_refused_before_it_grows() {
    let factors = (0..64).map(|i| format!("(a{i}+b{i})"));
    let product = factors.collect::<Vec<_>>().join("*");
    let nested = format!("{}N{}", "floor((1+".repeat(60), ")/3)".repeat(60));
    for text in [product, nested] {
        let error = text.parse::<Dim>().map(|_| ()).unwrap_err().to_string();
        assert!(
            error.contains("longer than") || error.contains("deep"),
            "{error}"
        );
    }
}

#[test]
fn a_size_that_is_left_out_is_what_the_others_lack() {
    let left_out = |whole: &[&str], others: &[&str]| {
        let dims = |texts: &[&str]| texts.iter().map(|t| dim(t)).collect::<Vec<_>>();
        Dim::left_out(&dims(whole), &dims(others)).map(|size| size.to_string())
    };
    let of = |text: &str| Some(text.to_string());
    assert_eq!(left_out(&["N", "H-7", "6"], &["H-7", "3"]), of("2*N"));
    assert_eq!(left_out(&["4", "6"], &["8"]), of("3"));
    assert_eq!(left_out(&["4", "6"], &["5"]), None);
    assert_eq!(left_out(&["0", "6"], &["0"]), None);
    // The product of what is on both sides is never made.
    let long: String = (2..40).map(|k| format!("+floor(H/{k})")).collect();
    let long = long.trim_start_matches('+');
    assert_eq!(
        left_out(&["N", long, long, long], &[long, long, long]),
        of("N")
    );
    assert_eq!(Dim::product(&vec![dim(long); 9]), None);
}

#[test]
fn the_form_of_a_size_shows_that_it_is_not_negative() {
    for text in [
        "N",
        "N-1",
        "floor((H+1)/2)-1",
        "H-floor(H/4)",
        "max(0,N-7)",
        "2*H-floor((3*H)/2)",
        "floor(H/4)-floor(H/8)",
        "floor((H+3)/4)-floor((H+3)/8)-1",
    ] {
        assert!(dim(text).is_never_negative(), "{text}");
    }
    for text in [
        "N-2",
        "-N",
        "N-M",
        "floor(H/2)-1",
        "H-floor((5*H)/4)",
        "floor(H/4)-floor(H/6)",
        "floor(H/8)-floor(H/4)",
        "N*(M-2)",
    ] {
        assert!(!dim(text).is_never_negative(), "{text}");
    }
}

#[test]
fn numbers_for_symbols_give_a_number() {
    let bindings = Bindings::from_iter([(Symbol::from("H"), 7)]);
    assert_eq!(dim("floor((H+1)/2)*3").eval(&bindings), Some(12));
    assert_eq!(dim("N*H").eval(&bindings), None);
}
