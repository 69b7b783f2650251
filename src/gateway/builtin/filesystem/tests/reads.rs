//! What is read of files that are too large to be read as a whole.

use super::*;

/// The blocks of a result that is no error.
fn blocks(server: &Filesystem, arguments: &Value) -> Vec<String> {
    let result: Value = serde_json::from_str(server.call("read_text_file", &raw(arguments)).unwrap().get()).unwrap();
    assert_ne!(result["isError"], true, "{result}");
    let blocks = result["content"].as_array().unwrap().iter();
    blocks.map(|block| block["text"].as_str().unwrap().to_owned()).collect()
}

/// Lines of 101 bytes, so that the limit falls inside a line, and with one of both beginnings inside a character.
#[test]
fn parts_of_a_file_past_the_limit_are_whole_lines_and_what_is_missing_is_told() {
    let site = site();
    let server = site.server();
    let line = "ü".repeat(50);
    for beginning in ["", "x"] {
        let text = format!("{beginning}{}", format!("{line}\n").repeat(115_000));
        fs::write(site.root.join("large.log"), &text).unwrap();
        for (part, first) in [("head", format!("{beginning}{line}")), ("tail", line.clone())] {
            assert_eq!(blocks(&server, &json!({ "path": "large.log", part: 1 })), [first], "{part}");
            let given = blocks(&server, &json!({ "path": "large.log", part: 115_000 }));
            assert_eq!(given.len(), 2, "{part}: {:?}", &given[1..]);
            assert!(given[0].lines().all(|given| given.trim_start_matches('x') == line), "{part}");
            assert_eq!(given[0].lines().count(), 10 * 1024 * 1024 / 101, "{part}");
            let missing = if part == "head" { "after" } else { "before" };
            assert!(given[1].contains(&format!("missing {missing} these: at most 10485760 bytes")), "{}", given[1]);
        }
    }
}

#[test]
fn a_count_of_lines_is_any_whole_number_and_zero_means_that_none_was_given() {
    let site = site();
    let server = site.server();
    let text = "one\ntwo\nthree\n";
    for (arguments, expected) in [
        (json!({ "head": 2.0 }), "one\ntwo"),
        (json!({ "tail": 1.0, "head": 0 }), "three"),
        (json!({ "head": 1e30 }), "one\ntwo\nthree"),
        (json!({ "head": 0 }), text),
        (json!({ "tail": 0 }), text),
        (json!({ "tail": 0, "head": 0 }), text),
        (json!({ "tail": null }), text),
    ] {
        let mut asked = arguments.clone();
        asked["path"] = json!("a.txt");
        assert_eq!(call(&server, "read_text_file", asked).unwrap(), expected, "{arguments}");
    }
    for count in [json!(-1), json!(1.5), json!("2"), json!(true)] {
        let refused = call(&server, "read_text_file", json!({ "path": "a.txt", "head": count })).unwrap_err();
        assert!(refused.contains("a whole number of lines"), "{refused}");
    }
}
