//! What an error shows of a wrong value: the value itself where it looks like a mistyped word, else only how long it is. Whoever has pasted a
//! key in the wrong line reads of it in logs and answers otherwise.

/// Characters of the longest value that is shown.
const LONGEST: usize = 40;
/// Characters of the longest name of a place that is shown: names that people choose are longer than words that they mistype.
const LONGEST_PLACE: usize = 80;
/// What is as short as this is shown whatever it consists of: `50%`, `$10`.
const ALWAYS: usize = 6;
/// Letters of the longest word, digits of the longest number, and characters of the longest run with both (`llama3`, `1h30m`). What is
/// longer without a break is no word.
const WORD: usize = 16;
const NUMBER: usize = 10;
const MIXED: usize = 8;
/// Characters that all runs of letters with digits have together, at most: keys are written in groups, too.
const ALL_MIXED: usize = 12;
/// Capitals inside of words with small letters, at most: `mcpServers` has one.
const INNER_CAPITALS: usize = 2;
/// What may stand between words.
const BETWEEN: &str = " ._/-:*,|#@'\"(){}<>[]?+=~";
/// How credentials begin: those of model providers, of code hosts and clouds, of headers, and our own.
const CREDENTIALS: [&str; 34] = [
    "sk-",
    "sk_",
    "pk_",
    "rk_",
    "ak-",
    "pk-",
    "gsk_",
    "xai-",
    "pplx-",
    "hf_",
    "r8_",
    "nvapi-",
    "tvly-",
    "AIza",
    "ya29.",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "npm_",
    "pypi-",
    "xox",
    "AKIA",
    "ASIA",
    "eyJ",
    "SG.",
    "whsec_",
    "Bearer ",
    "bearer ",
    "Basic ",
    "stn_key_",
];

/// A wrong value in an error: `` `opnai_chat` ``, or `a text of 51 characters`.
pub fn quoted(text: &str) -> String {
    harmless(text).map_or_else(|| described(text), |shown| format!("`{shown}`"))
}

/// The value where an error may show it.
pub fn harmless(text: &str) -> Option<String> {
    is_harmless(text, LONGEST).then(|| shown(text))
}

/// A name in the path of a place (`providers.NAME.api`): itself, or how long it is.
pub fn quoted_place(name: &str) -> String {
    if is_harmless(name, LONGEST_PLACE) { shown(name) } else { format!("({})", described(name)) }
}

fn described(text: &str) -> String {
    match text.chars().count() {
        1 => "a text of 1 character".to_owned(),
        count => format!("a text of {count} characters"),
    }
}

fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn is_harmless(text: &str, longest: usize) -> bool {
    if begins_as_a_credential(text) {
        return false;
    }
    let length = text.chars().count();
    if length <= ALWAYS {
        return text.chars().all(|c| c.is_ascii() || c.is_alphanumeric());
    }
    let is_known = |c: char| c.is_alphanumeric() || BETWEEN.contains(c);
    let runs = || text.split(|c: char| !c.is_alphanumeric()).filter(|run| !run.is_empty());
    let mixed = runs().filter(|run| is_mixed(run)).map(|run| run.chars().count()).sum::<usize>();
    let capitals = runs().filter(|run| run.contains(char::is_lowercase));
    let capitals = capitals.map(|run| run.chars().skip(1).filter(|c| c.is_uppercase()).count()).sum::<usize>();
    let is_short = length <= longest && mixed <= ALL_MIXED && capitals <= INNER_CAPITALS;
    is_short && text.chars().all(is_known) && runs().all(is_word)
}

/// At the beginning, or behind what may stand before a credential: `Bearer sk-..`.
fn begins_as_a_credential(text: &str) -> bool {
    let mut before = None;
    text.char_indices().any(|(at, c)| {
        let begins = before.is_none_or(|before: char| !before.is_alphanumeric());
        before = Some(c);
        begins && CREDENTIALS.iter().any(|start| text[at..].starts_with(start))
    })
}

fn is_mixed(run: &str) -> bool {
    run.contains(char::is_numeric) && run.contains(char::is_alphabetic)
}

fn is_word(run: &str) -> bool {
    let longest = match (is_mixed(run), run.contains(char::is_numeric)) {
        (true, _) => MIXED,
        (_, true) => NUMBER,
        _ => WORD,
    };
    run.chars().count() <= longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_is_shown() {
        for text in [
            "opnai_chat",
            "10 mn",
            "gpt-5.4",
            "claude-haiku-4-5-20251001",
            "openai/gpt 5",
            "gpt-4o-mini-2024-07-18",
            "llama3.1:8b-instruct-q4_K_M",
            "0.0.0.0:9000",
            "1h30",
            "-1",
            "0.0000001",
            "50%",
            "$10",
            "Bad Name",
            "mcpServers",
            "Überblick",
            "{{ .A | trim }}",
            "server__*",
            "",
        ] {
            assert_eq!(quoted(text), format!("`{text}`"));
        }
        assert_eq!(quoted("10\tm"), "`10\u{fffd}m`");
    }

    #[test]
    fn what_may_be_a_credential_is_not_shown() {
        for text in [
            "sk-a",
            "sk-very-secret",
            "sk-ant-api03-abc",
            "Bearer abc",
            "token: ghp_abc",
            "AKIAIOSFODNN7EXAMPLE",
            "stn_key_0123456789_x",
            "d41d8cd98f00b204e9800998ecf8427e",
            "123e4567-e89b-12d3-a456-426614174000",
            "A1B2C-D3E4F-G5H6I-J7K8L",
            "Tr0ub4dor&3",
            "abcdefghijklmnopqrst",
            "QmFzZSBzaXh0eSBmb3Vy",
            "123454321123",
            "correct horse battery staple and some more",
            "pa$$word",
        ] {
            let count = text.chars().count();
            assert_eq!(quoted(text), format!("a text of {count} characters"));
            assert!(!quoted_place(text).contains(text) || text.contains("horse"), "{text}");
        }
    }

    #[test]
    fn no_random_key_is_shown() {
        // A fixed sequence (Knuth's MMIX constants), so that a failure comes back.
        let mut seed: u64 = 7;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 33).unwrap()
        };
        let alphabets: [&[u8]; 3] = [
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
            b"0123456789abcdef",
            b"abcdefghijklmnopqrstuvwxyz0123456789",
        ];
        for round in 0..30_000 {
            let alphabet = alphabets[round % 3];
            let key: String = (0..20 + round % 30).map(|_| char::from(alphabet[next() % alphabet.len()])).collect();
            assert!(!quoted(&key).contains(&key) && !quoted_place(&key).contains(&key), "{key}");
        }
    }
}
