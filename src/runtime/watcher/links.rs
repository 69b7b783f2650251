//! Where the links of an environment's directory lead, so that what changes behind them is seen: a mounted ConfigMap is nothing but links,
//! and a new one comes by changing a link between.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// A path that leads through more links than this leads nowhere, as the system sees it too.
const MOST_LINKS: usize = 40;

/// What an environment's files depend on beside themselves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trails {
    /// Where the prompts are: `agents/`, or where that leads. `None` if it is nowhere inside.
    pub(super) agents: Option<PathBuf>,
    /// Links, what they lead to, and what lies on the way, as far as it is inside: below the environment's directory as it was given, or
    /// for a directory that is a link itself, beside it.
    pub(super) paths: BTreeSet<PathBuf>,
}

impl Trails {
    /// Looks at the environment in `directory`, which lies in that of all environments.
    pub(super) fn of(directory: &Path) -> Self {
        let mut trails = Self::default();
        if let (Some(all), Some(name)) = (directory.parent(), directory.file_name())
            && directory.is_symlink()
        {
            trails.paths.extend(trail(all, Path::new(name)).0);
        }
        let (passed, agents) = trail(directory, Path::new("agents"));
        if directory.join("agents").is_symlink() {
            trails.paths.extend(passed);
        }
        let prompts = agents.iter().flat_map(|agents| links_in(agents)).filter(|path| super::is_prompt(path));
        let others = links_in(directory).filter(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(super::matters) && !path.ends_with("agents")
        });
        for path in others.chain(prompts) {
            if let Ok(inside) = path.strip_prefix(directory) {
                trails.paths.extend(trail(directory, inside).0);
            }
        }
        trails.agents = agents;
        trails
    }

    /// The directories in which something has to be watched, beside that of the environment itself.
    pub(super) fn directories(&self) -> BTreeSet<PathBuf> {
        let parents = self.paths.iter().filter_map(|path| path.parent()).map(Path::to_owned);
        parents.chain(self.agents.clone()).collect()
    }
}

fn links_in(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    entries.filter(|path| path.is_symlink())
}

/// Everything in `base` that decides what `inside` of it leads to, and where it leads if that is in `base` too. What isn't there is on the way
/// as well: it may come.
fn trail(base: &Path, inside: &Path) -> (BTreeSet<PathBuf>, Option<PathBuf>) {
    let real = base.canonicalize().unwrap_or_else(|_| base.to_owned());
    let (mut passed, mut links) = (BTreeSet::new(), 0);
    let mut at = base.to_owned();
    let mut left: VecDeque<PathBuf> = parts(inside);
    while let Some(part) = left.pop_front() {
        match part.components().next() {
            Some(Component::Normal(name)) => at.push(name),
            Some(Component::ParentDir) => {
                at.pop();
                continue;
            }
            _ => continue,
        }
        let is_inside = at.starts_with(base);
        if is_inside {
            passed.insert(at.clone());
        }
        let Ok(target) = fs::read_link(&at) else { continue };
        links += 1;
        if links > MOST_LINKS {
            return (passed, None);
        }
        at.pop();
        let mut way = parts(&target);
        if target.is_absolute() {
            let within = target.strip_prefix(base).or_else(|_| target.strip_prefix(&real));
            // From outside it may lead back in by links that are nobody's business here.
            let Ok(within) = within else { return (passed, None) };
            at = base.to_owned();
            way = parts(within);
        }
        way.append(&mut left);
        left = way;
    }
    let end = at.starts_with(base).then_some(at);
    (passed, end)
}

fn parts(path: &Path) -> VecDeque<PathBuf> {
    path.components().map(|part| PathBuf::from(part.as_os_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// What is on the way from these links, relative to the environment; and where the prompts are.
    fn trails(links: &[(&str, &str)]) -> (Vec<String>, Option<String>) {
        let keep = tempfile::tempdir().unwrap();
        let directory = keep.path().join("development");
        fs::create_dir_all(directory.join("shared/agents")).unwrap();
        for (link, target) in links {
            let link = directory.join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(target.replace("BASE", directory.to_str().unwrap()), link).unwrap();
        }
        let trails = Trails::of(&directory);
        let shown = |path: &Path| path.strip_prefix(&directory).unwrap().to_str().unwrap().to_owned();
        (trails.paths.iter().map(|path| shown(path)).collect(), trails.agents.as_deref().map(shown))
    }

    #[test]
    fn everything_that_decides_what_a_file_is_lies_on_its_trail() {
        let agents = Some("agents".to_owned());
        assert_eq!(trails(&[]), (vec![], agents.clone()));
        for (links, passed) in [
            (
                vec![("agents/..data", "..r1"), ("agents/a.prompt", "..data/a.prompt")],
                vec!["agents", "agents/..data", "agents/..r1", "agents/..r1/a.prompt", "agents/a.prompt"],
            ),
            (
                vec![("agents/a.prompt", "../shared/a.prompt")],
                vec!["agents", "agents/a.prompt", "shared", "shared/a.prompt"],
            ),
            (vec![("variables.yml", "BASE/shared/v")], vec!["shared", "shared/v", "variables.yml"]),
            (vec![("s.json", "/etc/hostname"), ("notes.md", "shared/x")], vec!["s.json"]),
            (vec![("s.json", "t.json"), ("t.json", "s.json")], vec!["s.json", "t.json"]),
        ] {
            assert_eq!(trails(&links), (passed.into_iter().map(str::to_owned).collect(), agents.clone()), "{links:?}");
        }
        let linked = trails(&[("agents", "shared/agents"), ("shared/agents/a.prompt", "../b")]);
        let passed = ["agents", "shared", "shared/agents", "shared/agents/a.prompt", "shared/b"];
        assert_eq!(linked, (passed.map(str::to_owned).into(), Some("shared/agents".to_owned())));
        assert_eq!(trails(&[("agents", "/etc")]), (vec!["agents".to_owned()], None));
    }
}
