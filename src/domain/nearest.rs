//! "Did you mean": the known word that is closest to a mistyped one.

/// Characters of the longest word that is compared: the work grows with the length, and what is longer is no typo of a name.
const LONGEST: usize = 64;

/// The word of `known` that `word` was most likely meant to be, if any is close enough to be worth naming.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = word.chars().take(LONGEST + 1).count();
    if length > LONGEST {
        return None;
    }
    let (limit, word) = ((length / 3).max(1), word.to_lowercase());
    known
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours cost one each.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word_and_a_foreign_word_finds_none() {
        let known = ["model", "metadata", "max_steps", "timeout", "tools"];
        assert_eq!(nearest("modle", known), Some("model"));
        assert_eq!(nearest("maxsteps", known), Some("max_steps"));
        assert_eq!(nearest("Timeout", known), Some("timeout"));
        assert_eq!(nearest("sandbox", known), None);
        assert_eq!(nearest("agent_rnu", ["agent_run", "run_list"]), Some("agent_run"));
    }

    #[test]
    fn a_word_of_more_than_64_characters_is_near_nothing() {
        let known = "ä".repeat(64);
        assert_eq!(nearest(&known.replacen('ä', "x", 1), [known.as_str()]), Some(known.as_str()));
        assert_eq!(nearest(&format!("{known}ä"), [known.as_str()]), None);
    }
}
