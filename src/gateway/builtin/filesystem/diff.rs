//! The unified diff of two texts, in the shape that `git diff` has and with the header that the official server gives.

use std::collections::HashMap;
use std::ops::Range;

/// How many unchanged lines stand around a change.
const CONTEXT: usize = 4;
/// How many lines may differ before the search for the smallest difference gives up and shows one large replacement.
const MAX_DIFFERENCE: usize = 1_500;

/// The difference between two texts of the file that people know as `name`. Lines end with a line feed.
pub(super) fn unified(name: &str, old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let rule = "=".repeat(67);
    let mut text = format!("Index: {name}\n{rule}\n--- {name}\toriginal\n+++ {name}\tmodified\n");
    for hunk in hunks(changes(&old, &new)) {
        push_hunk(&mut text, &hunk, &old, &new);
    }
    text
}

/// Lines that go, and those that come in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    old: Range<usize>,
    new: Range<usize>,
}

/// Changes that stand close together, so that one piece of the file shows them all.
fn hunks(changes: Vec<Change>) -> Vec<Vec<Change>> {
    let mut hunks: Vec<Vec<Change>> = Vec::new();
    for change in changes {
        match hunks.last_mut() {
            Some(hunk) if hunk.last().is_some_and(|last| change.old.start - last.old.end <= CONTEXT * 2) => {
                hunk.push(change);
            }
            _ => hunks.push(vec![change]),
        }
    }
    hunks
}

fn push_hunk(text: &mut String, hunk: &[Change], old: &[&str], new: &[&str]) {
    let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { return };
    let before = first.old.start.min(CONTEXT);
    let after = (old.len() - last.old.end).min(CONTEXT);
    let shown = first.old.start - before..last.old.end + after;
    let in_new = first.new.start - before..last.new.end + after;
    text.push_str(&format!("@@ -{} +{} @@\n", position(&shown), position(&in_new)));
    let mut at = shown.start;
    for change in hunk {
        push_lines(text, ' ', &old[at..change.old.start]);
        push_lines(text, '-', &old[change.old.clone()]);
        push_lines(text, '+', &new[change.new.clone()]);
        at = change.old.end;
    }
    push_lines(text, ' ', &old[at..shown.end]);
}

/// Where a hunk begins, counted from one, and its length; an empty one begins after the line before it.
fn position(lines: &Range<usize>) -> String {
    format!("{},{}", if lines.is_empty() { lines.start } else { lines.start + 1 }, lines.len())
}

fn push_lines(text: &mut String, mark: char, lines: &[&str]) {
    for line in lines {
        text.push(mark);
        text.push_str(line);
        if !line.ends_with('\n') {
            text.push_str("\n\\ No newline at end of file\n");
        }
    }
}

/// The smallest set of changes, by Myers' greedy search (An O(ND) Difference Algorithm, 1986, figure 2).
fn changes(old: &[&str], new: &[&str]) -> Vec<Change> {
    let mut numbers = HashMap::new();
    let mut number = |line| {
        let next = numbers.len();
        *numbers.entry(line).or_insert(next)
    };
    let old: Vec<usize> = old.iter().map(|&line| number(line)).collect();
    let new: Vec<usize> = new.iter().map(|&line| number(line)).collect();
    let found = path(&old, &new).map(|path| along(&path, old.len(), new.len()));
    found.unwrap_or_else(|| vec![replaced(&old, &new)])
}

/// Everything between the equal beginning and the equal end.
fn replaced(old: &[usize], new: &[usize]) -> Change {
    let start = old.iter().zip(new).take_while(|(one, other)| one == other).count();
    let ends = old[start..].iter().rev().zip(new[start..].iter().rev());
    let end = ends.take_while(|(one, other)| one == other).count();
    Change { old: start..old.len() - end, new: start..new.len() - end }
}

/// For a number of differences, how many old lines the best path on each diagonal has passed; a diagonal is old lines minus new lines.
type Reached = Vec<Option<usize>>;

fn at(reached: &Reached, diagonal: isize) -> Option<usize> {
    let middle = isize::try_from(reached.len() / 2).ok()?;
    reached.get(usize::try_from(middle + diagonal).ok()?).copied().flatten()
}

/// What was reached with each number of differences, until both texts are passed. `None` when they differ too much.
fn path(old: &[usize], new: &[usize]) -> Option<Vec<Reached>> {
    let start = old.iter().zip(new).take_while(|(one, other)| one == other).count();
    let mut path = vec![vec![Some(start)]];
    if start == old.len() && start == new.len() {
        return Some(path);
    }
    for differences in 1..=MAX_DIFFERENCE.min(old.len() + new.len()) {
        let width = isize::try_from(differences).ok()?;
        let mut next: Reached = vec![None; 2 * differences + 1];
        for diagonal in (-width..=width).step_by(2) {
            let Some((mut x, _)) = step(path.last()?, diagonal, old.len(), new.len()) else { continue };
            let mut y = x.checked_add_signed(-diagonal)?;
            while x < old.len() && y < new.len() && old[x] == new[y] {
                (x, y) = (x + 1, y + 1);
            }
            next[usize::try_from(width + diagonal).ok()?] = Some(x);
            if x == old.len() && y == new.len() {
                path.push(next);
                return Some(path);
            }
        }
        path.push(next);
    }
    None
}

/// The best way onto `diagonal`: how many old lines are passed then, and whether a line came (otherwise one went).
fn step(before: &Reached, diagonal: isize, old: usize, new: usize) -> Option<(usize, bool)> {
    let removed = at(before, diagonal - 1).filter(|x| *x < old);
    let added = at(before, diagonal + 1).filter(|x| x.checked_add_signed(-diagonal).is_some_and(|y| 0 < y && y <= new));
    match (removed, added) {
        (Some(removed), Some(added)) if removed < added => Some((added, true)),
        (Some(removed), _) => Some((removed + 1, false)),
        (None, Some(added)) => Some((added, true)),
        (None, None) => None,
    }
}

/// Follows the path back from its end. A removal and an addition that touch are one change.
fn along(path: &[Reached], old: usize, new: usize) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let mut diagonal = isize::try_from(old).unwrap_or(0) - isize::try_from(new).unwrap_or(0);
    for before in path.iter().rev().skip(1) {
        let Some((x, added)) = step(before, diagonal, old, new) else { break };
        let y = x.checked_add_signed(-diagonal).unwrap_or(0);
        let change = if added { Change { old: x..x, new: y - 1..y } } else { Change { old: x - 1..x, new: y..y } };
        diagonal += if added { 1 } else { -1 };
        match changes.last_mut() {
            Some(next) if next.old.start == change.old.end && next.new.start == change.new.end => {
                (next.old.start, next.new.start) = (change.old.start, change.new.start);
            }
            _ => changes.push(change),
        }
    }
    changes.reverse();
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(old: &str, new: &str) -> String {
        unified("f", old, new).lines().skip(4).map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_changed_line_is_shown_between_its_neighbours() {
        let old: String = (1..=12).map(|n| format!("{n}\n")).collect();
        let new = old.replace("7\n", "seven\n");
        assert_eq!(body(&old, &new), "@@ -3,9 +3,9 @@\n 3\n 4\n 5\n 6\n-7\n+seven\n 8\n 9\n 10\n 11\n");
        assert_eq!(body(&old, &old), "");
    }

    #[test]
    fn beginnings_and_ends_are_counted_as_patch_reads_them() {
        assert_eq!(body("", "a\nb"), "@@ -0,0 +1,2 @@\n+a\n+b\n\\ No newline at end of file\n");
        assert_eq!(body("a\n", ""), "@@ -1,1 +0,0 @@\n-a\n");
        assert_eq!(body("a", "a\n"), "@@ -1,1 +1,1 @@\n-a\n\\ No newline at end of file\n+a\n");
    }

    /// Replays a diff, so that it can't be wrong and look right.
    fn patched(old: &str, diff: &str) -> String {
        let old: Vec<&str> = old.split_inclusive('\n').collect();
        let (mut new, mut at) = (String::new(), 0);
        for line in diff.lines().skip(4) {
            if let Some(head) = line.strip_prefix("@@ -") {
                let (start, count) = head.split(' ').next().unwrap().split_once(',').unwrap();
                let start: usize = start.parse().unwrap();
                let start = if count == "0" { start } else { start - 1 };
                new.extend(old[at..start].iter().copied());
                at = start;
            } else if let Some(line) = line.strip_prefix('+') {
                new.push_str(&format!("{line}\n"));
            } else {
                assert_eq!(old[at], format!("{}\n", &line[1..]));
                new.push_str(if line.starts_with(' ') { old[at] } else { "" });
                at += 1;
            }
        }
        new.extend(old[at..].iter().copied());
        new
    }

    #[test]
    fn a_diff_turns_the_old_text_into_the_new_one() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..2_000 {
            let mut text = |lines: u64| (0..random(lines)).map(|_| format!("{}\n", random(4))).collect::<String>();
            let (old, new) = (text(30), text(30));
            assert_eq!(patched(&old, &unified("f", &old, &new)), new, "{old:?} {new:?}");
        }
    }

    #[test]
    fn texts_that_differ_everywhere_take_no_time() {
        let text = |word: &str| (0..100_000).map(|n| format!("{word}{n}\n")).collect::<String>();
        let (old, new) = (text("a"), format!("{}end\n", text("b")));
        assert_eq!(patched(&old, &unified("f", &old, &new)), new);
    }
}
