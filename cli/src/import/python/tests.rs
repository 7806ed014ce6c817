//! Scripts as users and generators write them.

use super::*;

fn one(text: &str) -> Kind {
    let mut statements = parse(text).unwrap();
    assert_eq!(statements.len(), 1, "{statements:?}");
    statements.remove(0).kind
}

#[test]
fn a_generated_call_gives_its_arguments_over_many_lines() {
    let text = "x = A.apply(\n    frame=y,  # a note\n    mappings=[(\"a\", 'b'), (\"c\",)],\n    n={\"k\": True, 'l': 1},\n)";
    let Kind::Assign(name, Expr::Call(call)) = one(text) else {
        panic!()
    };
    assert_eq!((name.as_str(), call.line), ("x", 1));
    assert_eq!(call.function, Expr::Name("A.apply".into()));
    assert_eq!(call.arg("frame", 0), Some(&Expr::Name("y".into())));
    let pair = Expr::List(vec![Expr::Text("a".into()), Expr::Text("b".into())]);
    assert_eq!(
        call.arg("mappings", 1),
        Some(&Expr::List(vec![
            pair,
            Expr::List(vec![Expr::Text("c".into())])
        ]))
    );
}

#[test]
fn texts_of_all_kinds_are_read() {
    let Kind::Expr(Expr::Join(parts)) = one("f\"s3://{args['b']}/x\" \"/y\"") else {
        panic!()
    };
    assert_eq!(parts.len(), 4);
    assert_eq!(parts[3], Expr::Text("/y".into()));
    assert_eq!(one("r'\\d'"), Kind::Expr(Expr::Text("\\d".into())));
    assert_eq!(
        one("\"\"\"a\nb\"\"\""),
        Kind::Expr(Expr::Text("a\nb".into()))
    );
}

#[test]
fn lines_and_indents_are_those_of_the_file() {
    let lines =
        parse("# c\n\ndef f(a, b=1):\n    if a.count() > 0:\n\n        x = 1; y = 2\n").unwrap();
    let places: Vec<_> = lines.iter().map(|line| (line.line, line.indent)).collect();
    assert_eq!(places, [(3, 0), (4, 4), (6, 8), (6, 8)]);
    assert_eq!(
        lines[0].kind,
        Kind::Def("f".into(), vec!["a".into(), "b".into()])
    );
}

#[test]
fn half_of_an_expression_is_not_taken_for_the_whole() {
    assert_eq!(one("x = a if b else c"), Kind::Other);
    assert_eq!(one("x = y = f()"), Kind::Other);
    let Kind::Expr(Expr::Call(call)) =
        one("f(lambda r: r if a else b, c, k=1 if a else 2, l=[x for x in y])")
    else {
        panic!()
    };
    assert_eq!(call.args, [Expr::Other, Expr::Name("c".into())]);
    assert_eq!(call.named[0], ("k".into(), Expr::Other));
    assert_eq!(call.named[1], ("l".into(), Expr::List(vec![Expr::Other])));
    let Kind::Expr(Expr::Binary(op, ..)) = one("a not in b") else {
        panic!()
    };
    assert_eq!(op, "not in");
    let lines = parse("if a if b else c:\n    x = 1\n").unwrap();
    assert_eq!(lines[0].kind, Kind::If(Expr::Other));
}

#[test]
fn what_stands_behind_a_colon_is_a_statement_of_its_own() {
    let lines =
        parse("def f(a) -> int: return 1\nif a.count() == 0: return\ntry: x = 1\nfinally: y = 2\n")
            .unwrap();
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| (line.indent, line.kind.clone()))
        .collect();
    assert_eq!(kinds[1], (1, Kind::Return));
    assert_eq!(kinds[3], (1, Kind::Return));
    assert_eq!(
        (kinds[4].1.clone(), kinds[6].1.clone()),
        (Kind::Try, Kind::Block("finally".into()))
    );
    assert_eq!(
        kinds[7],
        (1, Kind::Assign("y".into(), Expr::Number("2".into())))
    );
}

#[test]
fn what_is_no_script_is_refused_and_never_a_panic() {
    for bad in ["x = (", "x = 'a", "x = \"\"\"a", ")", "x = 'a\nb'"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    let open = "[".repeat(100_000) + &"]".repeat(100_000);
    for odd in [
        &open,
        &"-".repeat(100_000),
        &"not ".repeat(100_000),
        &format!("x{}", ".a()".repeat(100_000)),
    ] {
        parse(odd).unwrap();
    }
    for odd in [
        "x = {1: }",
        "f(=)",
        "lambda",
        "x[",
        "}{",
        "f'{'",
        "f'{a:{b}}'",
        "x = @",
        "é = ü",
        "\\",
        "def",
        "x =",
    ] {
        let _ = parse(odd);
    }
    assert!(parse(&"1+".repeat(SCRIPT_BYTES_MAX)).is_err());
    parse(&"1+".repeat(10_000)).unwrap();
}
