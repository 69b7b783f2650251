use super::*;
use serde_json::json;

/// A value with everything that some spelling changes.
const SECRET: &str = "pä$s \"w\\o/r\td+=&<x>'\u{1F511}";

fn knowing(named: &[(&str, &str)]) -> Redactor {
    let redactor = Redactor::default();
    redactor.replace("development", named.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect());
    redactor
}

#[test]
fn without_secrets_everything_is_borrowed_and_untouched() {
    let redactor = Redactor::default();
    assert!(redactor.is_empty());
    assert!(matches!(redactor.text("as it is"), Cow::Borrowed("as it is")));
    assert!(matches!(redactor.bytes(b"\xff"), Cow::Borrowed(b"\xff")));
    assert!(matches!(redactor.stream().push(b"as it is"), Cow::Borrowed(b"as it is")));
    let redactor = knowing(&[("SHORT", "1234567")]);
    assert!(redactor.is_empty(), "a value of {} bytes would be found everywhere", SHORTEST - 1);
}

#[test]
fn a_value_is_found_in_every_spelling() {
    let redactor = knowing(&[("KEY", SECRET)]);
    let once = serde_json::to_string(SECRET).unwrap();
    let python = "p\\u00e4$s \\\"w\\\\o/r\\td+=&<x>'\\ud83d\\udd11";
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    for text in [
        SECRET.to_owned(),
        format!("{SECRET:?}"),
        once.clone(),
        serde_json::to_string(&once).unwrap(),
        serde_json::to_string(&serde_json::to_string(&once).unwrap()).unwrap(),
        python.to_owned(),
        serde_json::to_string(python).unwrap(),
        python.replace("00e4", "00E4").replace("d83d\\udd11", "D83D\\uDD11"),
        python.replace('/', "\\/").replace("\\u00e4", "ä").replace("\\ud83d\\udd11", "\u{1F511}"),
        python
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026")
            .replace("\\u00e4", "ä")
            .replace("\\ud83d\\udd11", "\u{1F511}"),
        "p%C3%A4%24s%20%22w%5Co%2Fr%09d%2B%3D%26%3Cx%3E%27%F0%9F%94%91".to_owned(),
        "p%c3%a4%24s+%22w%5co%2fr%09d%2b%3d%26%3cx%3e%27%f0%9f%94%91".to_owned(),
        "p%C3%A4%24s%20%22w%5Co%2Fr%09d%2B%3D%26%3Cx%3E'%F0%9F%94%91".to_owned(),
        "pä$s &quot;w\\o/r\td+=&amp;&lt;x&gt;&#39;\u{1F511}".to_owned(),
        hex.to_uppercase(),
        hex,
    ] {
        let redacted = redactor.text(&format!("<{text}>")).into_owned();
        assert_eq!(redacted.replace(['"', '\\'], ""), "<[redacted:KEY]>", "{text}");
    }
}

#[test]
fn base64_is_found_at_each_of_its_three_places_and_as_a_whole() {
    // Python: base64.b64encode(b"x" * n + b"correct horse?>~ battery").
    let redactor = knowing(&[("KEY", "correct horse?>~ battery")]);
    for (text, redacted) in [
        ("Y29ycmVjdCBob3JzZT8+fiBiYXR0ZXJ5", "[redacted:KEY]"),
        ("Y29ycmVjdCBob3JzZT8-fiBiYXR0ZXJ5", "[redacted:KEY]"),
        ("eGNvcnJlY3QgaG9yc2U/Pn4gYmF0dGVyeQ==", "eG[redacted:KEY]Q=="),
        ("eHhjb3JyZWN0IGhvcnNlPz5-IGJhdHRlcnk=", "eHh[redacted:KEY]k="),
    ] {
        assert_eq!(redactor.text(text), redacted);
    }
    let redactor = knowing(&[("KEY", "12345678")]);
    for text in ["MTIzNDU2Nzg=", "MTIzNDU2Nzg"] {
        assert_eq!(redactor.text(text), "[redacted:KEY]");
    }
}

#[test]
fn the_longest_value_wins_and_overlapping_ones_leave_nothing() {
    let redactor = knowing(&[("SHORT", "swordfish"), ("LONG", "swordfish-and-chips"), ("LATE", "chips-with-vinegar")]);
    assert_eq!(redactor.text("a swordfish-and-chips, a swordfish"), "a [redacted:LONG], a [redacted:SHORT]");
    assert_eq!(redactor.text("swordfish-and-chips-with-vinegar!"), "[redacted:LONG]!");
    assert_eq!(redactor.text("swordfishswordfish"), "[redacted:SHORT][redacted:SHORT]");
}

#[test]
fn the_lines_of_a_value_of_several_are_found_by_themselves() {
    let key = "-----BEGIN KEY-----\nMIIBVgIBADANBgkqhkiG9w0\nend\n-----END KEY-----\n";
    let redactor = knowing(&[("PEM", key)]);
    assert_eq!(redactor.text("line 2: MIIBVgIBADANBgkqhkiG9w0, line 3: end"), "line 2: [redacted:PEM], line 3: end");
    assert_eq!(redactor.text(key), "[redacted:PEM]");
    assert_eq!(redactor.text(&key.trim().replace('\n', "\\n")), "[redacted:PEM]");
    assert_eq!(redactor.text("-----BEGIN KEY-----"), "-----BEGIN KEY-----");
}

#[test]
fn a_stream_finds_a_value_wherever_it_is_cut() {
    let redactor =
        knowing(&[("KEY", SECRET), ("SHORT", "swordfish"), ("LONG", "swordfish-and-chips"), ("LATE", "chips-with")]);
    for text in [
        format!("before {SECRET} between {} after", serde_json::to_string(SECRET).unwrap()),
        "swordfish-and-chips-with swordfish-and swordfish-and-chips".to_owned(),
        "chips-wit swordfisswordfish swordfish-and-chipschips-with".to_owned(),
    ] {
        let whole = redactor.text(&text).into_owned();
        assert!(whole.contains("[redacted:"));
        for first in 0..text.len() {
            for size in [1, 2, 3, 7, 1000] {
                let mut stream = redactor.stream();
                let mut shown = stream.push(&text.as_bytes()[..first]).into_owned();
                for piece in text.as_bytes()[first..].chunks(size) {
                    shown.extend_from_slice(&stream.push(piece));
                }
                shown.extend(stream.finish());
                assert_eq!(String::from_utf8(shown).unwrap(), whole, "cut at {first}, then every {size}");
            }
        }
    }
}

#[test]
fn a_stream_holds_back_only_what_may_become_a_value() {
    let redactor = knowing(&[("KEY", "swordfish")]);
    let mut stream = redactor.stream();
    assert_eq!(stream.push_str("nothing here; s"), "nothing here; ");
    assert_eq!(stream.push_str("wor"), "");
    assert_eq!(stream.push_str("ld"), "sworld");
    assert_eq!(stream.push_str(" sword"), " ");
    assert_eq!(stream.finish_str(), "sword");
    assert_eq!(stream.finish_str(), "");
}

#[test]
fn json_loses_values_in_strings_keys_and_numbers_and_stays_json() {
    let redactor = knowing(&[("KEY", SECRET), ("PIN", "1234567890")]);
    let mut value = json!({
        "text": format!("it is {SECRET}"), SECRET: 1, format!("{SECRET}"): 2, "[redacted:KEY]": 3,
        "pin": 1_234_567_890_u64, "list": [[SECRET]], "left": "alone", "n": 1.5,
    });
    assert!(redactor.json_in_place(&mut value));
    assert_eq!(
        value,
        json!({
            "text": "it is [redacted:KEY]", "[redacted:KEY]": 2, "[redacted:KEY] 2": 3,
            "pin": "[redacted:PIN]", "list": [["[redacted:KEY]"]], "left": "alone", "n": 1.5,
        })
    );
    assert!(!redactor.json_in_place(&mut json!({ "left": ["alone", 12345678] })));
}

#[test]
fn a_secret_that_is_json_takes_the_object_that_spells_it_along() {
    let redactor = knowing(&[("ACCOUNT", r#"{"type":"service","id":7}"#)]);
    assert_eq!(
        redactor.json(json!({ "a": { "got": { "type": "service", "id": 7 }, "b": 1 } })),
        json!({ "a": { "got": "[redacted:ACCOUNT]", "b": 1 } })
    );
}

#[test]
fn json_text_stays_byte_for_byte_but_for_what_held_a_value() {
    let redactor = knowing(&[("KEY", SECRET), ("PIN", "1234567890")]);
    let odd = r#"{ "n": 12345678901234567890123456e2 , "n":-0,"half":"\ud83d", "slash":"\/" }"#;
    let other = Redactor::default();
    other.replace("x", vec![("OTHER".into(), "not in there".into())]);
    assert!(matches!(other.json_text(odd), Cow::Borrowed(text) if text == odd));

    let quoted = serde_json::to_string(SECRET).unwrap();
    let text = format!(r#"{{ "a" : {quoted} , "big":98765432109876543210 ,"pin":-1234567890,"half":"\ud83d" }}"#);
    let redacted =
        r#"{ "a" : "[redacted:KEY]" , "big":98765432109876543210 ,"pin":"-[redacted:PIN]","half":"\ud83d" }"#;
    assert_eq!(redactor.json_text(&text), redacted);
    let raw = RawValue::from_string(text).unwrap();
    assert_eq!(redactor.raw(raw).get(), redacted);

    let escaped: String = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    assert_eq!(redactor.json_text(&format!(r#"["{escaped}"]"#)), r#"["[redacted:KEY]"]"#);
    assert_eq!(redactor.json_text(&format!("no json: {SECRET}")), "no json: [redacted:KEY]");
}

#[test]
fn scopes_are_replaced_added_to_and_removed_and_all_clones_know() {
    let redactor = Redactor::default();
    let clone = redactor.clone();
    redactor.replace("development", vec![("A".into(), "first-value".into())]);
    redactor.replace("production", vec![("A".into(), "other-value".into())]);
    redactor.replace("development", vec![("A".into(), "second-value".into())]);
    assert_eq!(clone.text("first-value second-value other-value"), "first-value [redacted:A] [redacted:A]");
    redactor.remove("production");
    assert_eq!(clone.text("second-value other-value"), "[redacted:A] other-value");
    clone.add(PROVIDERS, "OPENAI_API_KEY", &"sk-1-of-many".into());
    clone.add(PROVIDERS, "OPENAI_API_KEY", &"sk-2-of-many".into());
    assert_eq!(redactor.text("sk-1-of-many sk-2-of-many"), "[redacted:OPENAI_API_KEY] [redacted:OPENAI_API_KEY]");
    for n in 3..100 {
        clone.add(PROVIDERS, "OPENAI_API_KEY", &format!("sk-{n}-of-many").into());
    }
    assert_eq!(redactor.text("sk-1-of-many sk-99-of-many"), "sk-1-of-many [redacted:OPENAI_API_KEY]");
    assert!(!format!("{redactor:?}").contains("of-many"));
}

#[test]
fn who_looks_within_a_scope_sees_its_values_and_those_of_the_station() {
    let redactor = Redactor::default();
    let named = |name: &str, value: &str| vec![(name.to_owned(), SecretString::from(value.to_owned()))];
    redactor.replace("environment development", named("DEV", "swordfish one"));
    redactor.replace("environment production", named("PROD", "swordfish two"));
    redactor.add(PROVIDERS, "openai", &"swordfish three".into());
    let text = "swordfish one, swordfish two, swordfish three";
    assert_eq!(redactor.text(text), "[redacted:DEV], [redacted:PROD], [redacted:openai]");
    let development = redactor.within("environment development");
    assert_eq!(development.text(text), "[redacted:DEV], swordfish two, [redacted:openai]");
    assert_eq!(redactor.within(STATION).text(text), "swordfish one, swordfish two, [redacted:openai]");
    development.add("environment development", "NEW", &"swordfish two".into());
    assert_eq!(development.text("swordfish two"), "[redacted:NEW]");
}

#[test]
fn a_long_value_is_found_whole_and_as_far_as_it_was_cut() {
    let value: String = (0..20_000).map(|at| char::from(b'a' + u8::try_from(at * at % 23).unwrap())).collect();
    let redactor = knowing(&[("LONG", &value)]);
    assert_eq!(redactor.text(&format!("<{value}>")), "<[redacted:LONG]>");
    assert_eq!(redactor.text(&format!("<{}>", &value[..3000])), "<[redacted:LONG]>");
    assert_eq!(redactor.text(&value[..40]), value[..40], "less than is looked for");
    let mut stream = redactor.stream();
    let mut told = String::new();
    for piece in format!("<{value}>{}!", &value[..100]).as_bytes().chunks(777) {
        told.push_str(&String::from_utf8_lossy(&stream.push(piece)));
    }
    told.push_str(&stream.finish_str());
    assert_eq!(told, "<[redacted:LONG]>[redacted:LONG]!");
}

#[test]
fn what_is_part_of_its_own_marker_is_replaced_where_it_stands_and_redacting_twice_equals_once() {
    let redactor = knowing(&[("postgres", "postgres"), ("DB_A", "password"), ("password_B", "tok-of-B-1")]);
    redactor.add(PROVIDERS, "providers.lm-studio.api_key", &"lm-studio".into());
    redactor.add(STATION, "word", &"redacted".into());
    redactor.add(STATION, "mark", &"[redacted".into());
    redactor.add(STATION, "marker", &"redacted:".into());
    let once = redactor.json(json!({
        "input": "is postgres up?", "model": { "provider": "lm-studio", "id": "m1" }, "password": ["tok-of-B-1", 1],
    }));
    assert_eq!(
        once,
        json!({
            "input": "is [redacted] up?", "model": { "provider": "[redacted]", "id": "m1" }, "[redacted:DB_A]": ["[redacted]", 1],
        })
    );
    assert_eq!(redactor.json(once.clone()), once);
    let text = redactor.json_text(r#"{"a":"postgres","b":1}"#).into_owned();
    assert_eq!(text, r#"{"a":"[redacted]","b":1}"#);
    assert!(matches!(redactor.json_text(&text), Cow::Borrowed(_)));
    let text = redactor.text("lm-studio: postgres, password").into_owned();
    assert_eq!(text, "[redacted]: [redacted], [redacted:DB_A]");
    assert!(matches!(redactor.text(&text), Cow::Borrowed(_)));
    let mut stream = redactor.stream();
    let told = ["is post", "gres up", "?"].map(|piece| stream.push_str(piece)).concat() + &stream.finish_str();
    assert_eq!(told, "is [redacted] up?");
}

#[test]
fn a_text_that_repeats_itself_as_a_value_does_is_read_once() {
    // A tenth of this, compared anew from each byte on, is minutes of work.
    let value = "a".repeat(60_000);
    let redactor = knowing(&[("REPEATS", &value)]);
    let text = "a".repeat(1_000_000);
    assert_eq!(redactor.text(&text), "[redacted:REPEATS]");
    assert_eq!(redactor.text(&format!("<{}!>", &text[..5000])), "<[redacted:REPEATS]!>");
}

#[test]
fn of_values_that_begin_alike_the_one_that_goes_on_the_farthest_is_found() {
    let head = "h".repeat(30) + &"0123456789".repeat(4);
    let [one, two] = ["-one-behind-it", "-two-and-more"].map(|tail| format!("{head}{tail}"));
    let redactor = knowing(&[("ONE", &one), ("TWO", &two)]);
    assert_eq!(redactor.text(&format!("<{one}><{two}>")), "<[redacted:ONE]><[redacted:TWO]>");
    assert_eq!(redactor.text(&format!("<{head}-two!>")), "<[redacted:TWO]!>");
}
