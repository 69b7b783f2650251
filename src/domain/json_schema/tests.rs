use super::*;
use serde_json::{Map, json};

/// `$defs` d0 to d`length`, where each is `link` of the next.
fn chain(length: usize, link: impl Fn(Value) -> Value) -> Value {
    let mut defs: Map<String, Value> =
        (0..length).map(|at| (format!("d{at}"), link(json!({ "$ref": format!("#/$defs/d{}", at + 1) })))).collect();
    defs.insert(format!("d{length}"), json!({ "type": "string" }));
    json!({ "type": "object", "properties": { "x": { "$ref": "#/$defs/d0" } }, "$defs": defs })
}

fn reason(schema: &Value) -> String {
    ValueSchema::new(schema).unwrap_err().reason
}

#[test]
fn a_chain_of_references_is_taken_up_to_its_bound_whatever_its_links_are() {
    let links: [fn(Value) -> Value; 6] = [
        |next| next,
        |next| json!({ "allOf": [next] }),
        |next| json!({ "anyOf": [{ "type": "integer" }, next] }),
        |next| json!({ "not": next }),
        |next| json!({ "if": {}, "then": next }),
        |next| json!({ "dependentSchemas": { "properties": next } }),
    ];
    for link in links {
        assert!(ValueSchema::new(&chain(20, link)).is_ok());
        let fault = ValueSchema::new(&chain(3_000, link)).unwrap_err();
        assert!(fault.reason.contains("more than 64"), "{}", fault.reason);
        assert_eq!(fault.path[0], "$defs", "{:?}", fault.path);
    }
    let into_the_value = chain(3_000, |next| json!({ "properties": { "a": next } }));
    assert!(ValueSchema::new(&into_the_value).is_ok(), "one step for each level of the value");
}

#[test]
fn a_chain_is_seen_however_its_references_are_written() {
    let anchors: Vec<Value> =
        (0..900).map(|at| json!({ "$anchor": format!("a{at}"), "$ref": format!("#a{}", at + 1) })).collect();
    let ids: Vec<Value> = (0..900)
        .map(|at| json!({ "$id": format!("http://a/i{at}"), "$ref": format!("i{}", at + 1) }))
        .chain([json!({ "$id": "http://a/i900" })])
        .collect();
    let escaped = chain(3_000, |next| next).to_string().replace("#/$defs/", "#/%24defs/");
    let mut inner = chain(3_000, |next| next);
    inner["$id"] = json!("http://a/inner");
    for schema in [
        json!({ "$ref": "#a0", "$defs": { "all": { "prefixItems": anchors } } }),
        json!({ "$ref": "http://a/i0", "$defs": { "all": { "prefixItems": ids } } }),
        serde_json::from_str(&escaped).unwrap(),
        json!({ "properties": { "y": inner } }),
    ] {
        assert!(reason(&schema).contains("more than 64"));
    }
}

#[test]
fn ways_that_double_with_every_step_are_not_taken() {
    let doubled = |length| chain(length, |next| json!({ "anyOf": [next, next] }));
    assert!(ValueSchema::new(&doubled(10)).is_ok());
    assert!(reason(&doubled(30)).contains("ways"));
}

#[test]
fn recursion_is_taken_where_it_goes_into_the_value() {
    let tree = json!({ "$ref": "#/$defs/tree", "$defs": { "tree": {
        "properties": { "left": { "$ref": "#/$defs/tree" }, "all": { "items": { "$ref": "#" } } } } } });
    let schema = ValueSchema::new(&tree).unwrap();
    assert_eq!(schema.faults(&json!({ "left": { "left": {} } }), 5).unwrap().len(), 0);
    for endless in [
        json!({ "$ref": "#" }),
        json!({ "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "not": { "$ref": "#/$defs/a" } } } }),
    ] {
        assert!(reason(&endless).contains("itself"));
    }
    let named = json!({ "$id": "Node", "type": "object", "properties": { "next": { "anyOf": [{ "$ref": "Node" }, { "type": "null" }] } } });
    assert!(ValueSchema::new(&named).is_ok());
}

#[test]
fn how_deep_a_value_may_be_depends_on_the_schema() {
    let mut steps = json!({ "properties": { "a": { "$ref": "#/$defs/t" } } });
    for _ in 0..25 {
        steps = json!({ "allOf": [steps] });
    }
    let steep = ValueSchema::new(&json!({ "$ref": "#/$defs/t", "$defs": { "t": steps } })).unwrap();
    let flat = ValueSchema::new(&json!({ "properties": { "a": { "$ref": "#" } } })).unwrap();
    let nested = |depth| (0..depth).fold(json!("x"), |inner, _| json!({ "a": inner }));
    assert!(steep.faults(&nested(20), 1).is_ok() && flat.faults(&nested(120), 1).is_ok());
    let told = steep.faults(&nested(120), 1).unwrap_err();
    assert!(told.contains("nested 120 deep") && told.contains("may be nested 3"), "{told}");
}

#[test]
fn more_references_and_names_than_can_be_looked_up_in_a_moment_are_not_taken() {
    let bundle = |count: usize, id: &dyn Fn(usize) -> String| {
        let defined = (0..count).map(|at| (format!("d{at}"), json!({ "$id": id(at) })));
        let referred: Vec<_> = (0..count).map(|at| json!({ "$ref": id(at) })).collect();
        json!({ "$defs": defined.collect::<Map<_, _>>(), "examples": referred })
    };
    assert!(check_schema_bounds(&bundle(2_000, &|at| format!("http://a/{at}/x"))).is_ok(), "each means one");
    assert!(reason(&bundle(2_000, &|_| "http://a/x".to_owned())).contains("2000 references"));
    let named: Map<String, Value> =
        (0..2_000).map(|at| (format!("d{at}"), json!({ "properties": { "id": { "$ref": "#/$defs/d0" } } }))).collect();
    assert!(check_schema_bounds(&json!({ "$defs": named })).is_ok(), "fields called `id` are no names");
}

#[test]
fn a_schema_that_is_written_too_deep_is_not_taken() {
    let deep = (0..300).fold(json!({}), |inner, _| json!({ "not": inner }));
    assert!(reason(&deep).contains("nested more than 128"));
}

/// Two resources of one document with the same names inside.
fn bundle(first: &str, second: &str) -> Value {
    json!({
        "$ref": format!("{first}#/$defs/entry"),
        "$defs": {
            "one": { "$id": first, "$defs": {
                "entry": { "$ref": "#/$defs/value" }, "value": { "$ref": second } } },
            "two": { "$id": second, "$ref": "#/$defs/entry", "$defs": {
                "entry": { "$ref": "#/$defs/value" }, "value": { "type": "integer" } } },
        },
        "properties": { "x": { "$ref": "#/$defs/one" } },
    })
}

#[test]
fn a_reference_begins_at_the_nearest_id_around_it() {
    for (first, second) in [("http://a/one", "http://a/two"), ("http://a/1/x", "http://a/2/x"), ("one", "two")] {
        let schema = ValueSchema::new(&bundle(first, second)).unwrap_or_else(|fault| panic!("{first}: {fault:?}"));
        assert!(schema.faults(&json!(1), 1).unwrap().is_empty() && !schema.faults(&json!("x"), 1).unwrap().is_empty());
    }
    let named_alike = json!({
        "$defs": {
            "value": { "$ref": "inner" },
            "inner": { "$id": "inner", "$ref": "#/$defs/value", "$defs": { "value": { "type": "string" } } },
        },
        "$ref": "#/$defs/value",
    });
    assert!(ValueSchema::new(&named_alike).unwrap().faults(&json!("x"), 1).unwrap().is_empty());
    let anchors = json!({
        "$ref": "one#it",
        "$defs": {
            "one": { "$id": "one", "$defs": { "it": { "$anchor": "it", "$ref": "two#it" } } },
            "two": { "$id": "two", "$defs": { "it": { "$anchor": "it", "type": "string" } } },
        },
    });
    assert!(ValueSchema::new(&anchors).unwrap().faults(&json!("x"), 1).unwrap().is_empty());
}

#[test]
fn a_chain_is_seen_where_it_is_not_clear_which_resource_is_meant() {
    let mut twice = chain(3_000, |next| next);
    twice["$defs"]["other"] = json!({ "$id": "http://a/same" });
    twice["$defs"]["again"] = json!({ "$id": "http://a/same", "$ref": "#/$defs/d0" });
    twice["$id"] = json!("http://a/same");
    let as_data = json!({ "$ref": "#/const/at", "const": { "$id": "http://a/x", "at": { "$ref": "#/$defs/d0" } },
        "$defs": chain(3_000, |next| next)["$defs"] });
    let odd_index = json!({ "$ref": "#/x/00", "x": (0..900).map(|at| json!({ "$ref": format!("#/x/0{}", at + 1) })).collect::<Vec<_>>() });
    let old_id =
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "id": "http://a/x", "allOf": [{ "$ref": "#/$defs/d0" }] } } });
    let mut old = chain(3_000, |next| next);
    old["$defs"]["a"] = old_id["$defs"]["a"].clone();
    for schema in [twice, as_data, odd_index, old] {
        assert!(reason(&schema).contains("more than 64"), "{}", reason(&schema));
    }
}

/// As deep as `depth`, with `leaf` innermost, under `a` at every level.
fn nested(depth: usize, leaf: Value) -> Value {
    (0..depth).fold(leaf, |inner, _| json!({ "a": inner }))
}

#[test]
fn a_value_that_a_schema_leads_to_in_too_many_ways_is_refused_with_the_place_instead_of_being_checked_for_ever() {
    let next = || json!({ "properties": { "a": { "$ref": "#/$defs/n" } } });
    let twice =
        json!({ "$ref": "#/$defs/n", "$defs": { "n": { "anyOf": [next(), next()], "not": { "type": "integer" } } } });
    let items = json!({ "$ref": "#/$defs/n", "$defs": { "n": {
        "items": { "$ref": "#/$defs/n" }, "contains": { "$ref": "#/$defs/n" }, "type": "array" } } });
    let again = json!({ "$ref": "#/$defs/n", "$defs": { "n": { "type": "object", "anyOf": [next()], "unevaluatedProperties": false } } });
    let into = |links: usize| {
        chain(links, |next| json!({ "anyOf": [{ "properties": { "a": next } }, { "properties": { "a": next } }] }))
    };
    let arrays = (0..60).fold(json!("x"), |inner, _| json!([inner]));
    for (schema, value) in [
        (twice, nested(60, json!(1))),
        (items, arrays),
        (again, nested(60, json!(1))),
        (into(40), json!({ "x": nested(40, json!(1)) })),
    ] {
        let told = ValueSchema::new(&schema).unwrap().faults(&value, 5).unwrap_err();
        assert!(told.contains("it can't be checked: the schema at") && told.contains("#/$defs/"), "{told}");
    }
}

#[test]
fn a_value_that_fits_is_accepted_where_the_reasons_of_another_would_be_too_many() {
    let kind = |name: &str| json!({ "type": "object", "properties": { "kind": { "const": name }, "a": { "$ref": "#/$defs/n" } }, "required": ["kind"] });
    let schema = json!({ "$ref": "#/$defs/n", "$defs": { "n": { "anyOf": [{ "type": "string" }, kind("x"), kind("y"), kind("z")] } } });
    let schema = ValueSchema::new(&schema).unwrap();
    let value = |leaf: Value| (0..12).fold(leaf, |inner, _| json!({ "kind": "z", "a": inner }));
    assert!(schema.faults(&value(json!("leaf")), 5).unwrap().is_empty());
    let told = schema.faults(&value(json!(1)), 5).unwrap_err();
    assert!(told.contains("doesn't fit") && told.contains("#/$defs/n"), "{told}");
}

#[test]
fn ordinary_recursion_is_checked_however_deep_and_wide_the_value_is() {
    let json_like = json!({ "$ref": "#/$defs/v", "$defs": { "v": { "anyOf": [
        { "type": "object", "additionalProperties": { "$ref": "#/$defs/v" } },
        { "type": "array", "items": { "$ref": "#/$defs/v" } },
        { "type": ["string", "number", "boolean"] } ] } } });
    let tree = json!({ "$ref": "#/$defs/t", "$defs": { "t": { "type": "object", "additionalProperties": false,
        "properties": { "a": { "$ref": "#/$defs/t" }, "b": { "$ref": "#/$defs/t" }, "value": { "type": "integer" } } } } });
    let list = json!({ "type": "object", "properties": { "a": { "anyOf": [{ "$ref": "#" }, { "type": "null" }] } } });
    let filter = json!({ "$ref": "#/$defs/f", "$defs": { "f": { "oneOf": [
        { "required": ["and"], "properties": { "and": { "items": { "$ref": "#/$defs/f" } } } },
        { "required": ["a"], "properties": { "a": { "$ref": "#/$defs/f" } } },
        { "required": ["field"] } ] } } });
    let strict = json!({ "$ref": "#/$defs/n", "$defs": { "base": { "properties": { "a": { "$ref": "#/$defs/n" } } },
        "n": { "type": "object", "allOf": [{ "$ref": "#/$defs/base" }], "unevaluatedProperties": false } } });
    for (schema, leaf) in [
        (&json_like, json!("x")),
        (&tree, json!({ "value": 1 })),
        (&list, json!(null)),
        (&filter, json!({ "field": 1 })),
        (&strict, json!({})),
    ] {
        let schema = ValueSchema::new(schema).unwrap();
        assert!(schema.faults(&nested(100, leaf), 5).unwrap().is_empty());
    }
    let wide: Vec<Value> =
        (0..50_000).map(|at| json!({ "value": if at == 7 { json!("x") } else { json!(at) } })).collect();
    let trees = ValueSchema::new(&json!({ "items": { "$ref": "#/$defs/t" }, "$defs": tree["$defs"] })).unwrap();
    assert_eq!(trees.faults(&json!(wide), 5).unwrap().len(), 1);
}
