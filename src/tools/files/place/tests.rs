use super::*;
use std::cell::Cell;
use std::collections::BTreeMap;

/// A directory with an environment, whose variables are as the change that is tried was made against them: `old` becomes `new`.
struct Scene {
    directory: tempfile::TempDir,
    place: Place,
    pending: PendingFile,
}

const FILE: &str = "environments/development/variables.yml";

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("environments/development");
        fs::create_dir_all(root.join("agents")).unwrap();
        let place = Place { base: directory.path().to_owned(), root };
        let replaces = Some(revision_of(b"old"));
        let pending = PendingFile { id: 1, file: FILE.to_owned(), bytes: Some(b"new".to_vec()), replaces };
        let scene = Self { directory, place, pending };
        scene.save("old");
        scene
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(FILE)
    }

    /// As editors do it.
    fn save(&self, text: &str) {
        let other = self.path().with_extension("sav");
        fs::write(&other, text).unwrap();
        fs::rename(other, self.path()).unwrap();
    }

    fn prepared(&self) -> NewFile {
        self.place.prepare(FILE, self.pending.bytes.as_deref()).unwrap().unwrap()
    }

    /// Makes the change while somebody saves each of `saves` right before an exchange.
    fn replace(&self, saves: &[&str]) -> bool {
        let (exchanges, mut new) = (Cell::new(0), self.prepared());
        new.replace(b"new", self.pending.replaces.as_deref(), |one, other| {
            if let Some(text) = saves.get(exchanges.replace(exchanges.get() + 1)) {
                self.save(text);
            }
            exchange(one, other)
        })
        .unwrap()
    }

    /// Everything in the environment, by name.
    fn files(&self) -> BTreeMap<String, String> {
        let entries = fs::read_dir(self.path().parent().unwrap()).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.path().is_file());
        files
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
            .collect()
    }

    fn assert_only(&self, text: &str) {
        assert_eq!(self.files(), BTreeMap::from([("variables.yml".to_owned(), text.to_owned())]));
    }
}

#[test]
fn what_somebody_saves_in_the_last_moment_stays_however_often_they_do() {
    for (saves, last) in [
        (vec![], "new"),
        (vec!["first"], "first"),
        (vec!["first", "second"], "second"),
        (vec!["first", "second", "third"], "third"),
        (vec!["first", "first", "third", "second"], "second"),
    ] {
        let scene = Scene::new();
        assert_eq!(scene.replace(&saves), saves.is_empty(), "{saves:?}");
        scene.assert_only(last);
    }
}

#[test]
fn somebody_who_never_stops_saving_is_given_the_last_that_was_seen() {
    let scene = Scene::new();
    let saves: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    assert!(!scene.replace(&saves.iter().map(String::as_str).collect::<Vec<_>>()));
    scene.assert_only(&MOST_EXCHANGES.to_string());
}

#[test]
fn a_file_that_vanishes_or_appears_in_the_last_moment_is_left_so() {
    let scene = Scene::new();
    let mut new = scene.prepared();
    fs::remove_file(scene.path()).unwrap();
    assert!(!new.replace(b"new", scene.pending.replaces.as_deref(), exchange).unwrap());
    drop(new);
    assert_eq!(scene.files(), BTreeMap::new());

    let mut new = scene.prepared();
    scene.save("theirs");
    assert!(!new.replace(b"new", None, exchange).unwrap());
    drop(new);
    scene.assert_only("theirs");
}

#[test]
fn a_file_system_that_cannot_exchange_gets_a_last_look() {
    let unsupported = |_: &Path, _: &Path| Err(ErrorKind::Unsupported.into());
    for (text, is_kept, last) in [("old", true, "new"), ("theirs", false, "theirs")] {
        let scene = Scene::new();
        let mut new = scene.prepared();
        scene.save(text);
        assert_eq!(new.replace(b"new", scene.pending.replaces.as_deref(), unsupported).unwrap(), is_kept);
        drop(new);
        scene.assert_only(last);
    }
}

#[test]
fn a_save_that_a_crash_caught_between_two_exchanges_is_given_back() {
    for (left, is_kept, last) in [("theirs", false, "theirs"), ("old", true, "new"), ("ne", true, "new")] {
        let scene = Scene::new();
        scene.save("new");
        fs::write(beside(&scene.path()).unwrap(), left).unwrap();
        assert_eq!(scene.place.keep(&scene.pending, None).unwrap(), is_kept, "{left}");
        scene.assert_only(last);
    }
    for (left, is_kept) in [("theirs", false), ("old", true)] {
        let mut scene = Scene::new();
        scene.pending.bytes = None;
        fs::remove_file(scene.path()).unwrap();
        fs::write(beside(&scene.path()).unwrap(), left).unwrap();
        assert_eq!(scene.place.keep(&scene.pending, None).unwrap(), is_kept, "{left}");
        assert_eq!(scene.files().into_values().collect::<Vec<_>>(), if is_kept { vec![] } else { vec!["theirs"] });
    }
}

#[test]
fn what_is_removed_is_given_back_if_it_is_something_else() {
    for (text, is_kept) in [("old", true), ("theirs", false)] {
        let mut scene = Scene::new();
        scene.pending.bytes = None;
        scene.save(text);
        assert_eq!(remove(&scene.path(), &scene.pending).unwrap(), is_kept, "{text}");
        assert_eq!(scene.files().into_values().collect::<Vec<_>>(), if is_kept { vec![] } else { vec!["theirs"] });
    }
}

#[test]
fn a_file_that_is_a_link_stays_one_and_a_removed_link_leaves_its_target() {
    let mut scene = Scene::new();
    let shared = scene.directory.path().join("environments/development/agents/shared.yml");
    fs::rename(scene.path(), &shared).unwrap();
    std::os::unix::fs::symlink("agents/shared.yml", scene.path()).unwrap();
    let prepared = scene.prepared();
    assert!(scene.place.keep(&scene.pending, Some(prepared)).unwrap());
    assert_eq!((scene.path().is_symlink(), fs::read_to_string(&shared).unwrap()), (true, "new".to_owned()));
    scene.pending = PendingFile { bytes: None, replaces: Some(revision_of(b"new")), ..scene.pending.clone() };
    assert!(scene.place.keep(&scene.pending, None).unwrap());
    assert_eq!((scene.path().is_symlink(), fs::read_to_string(&shared).unwrap()), (false, "new".to_owned()));
}

#[test]
fn what_was_prepared_and_not_kept_goes_with_it_or_after_a_crash_with_a_sweep() {
    let scene = Scene::new();
    drop(scene.prepared());
    scene.assert_only("old");
    let shared = scene.directory.path().join("environments/development/agents/shared.prompt");
    fs::write(&shared, "x").unwrap();
    std::os::unix::fs::symlink("agents/shared.prompt", scene.path().with_file_name("linked.json")).unwrap();
    let agent = "environments/development/agents/a.prompt";
    let left = [FILE, agent, "environments/development/linked.json"].map(|file| {
        let mut new = scene.place.prepare(file, Some(b"x")).unwrap().unwrap();
        new.may_go = false;
        new.path.clone()
    });
    scene.place.sweep(&[FILE.to_owned()]);
    assert_eq!(left.each_ref().map(|path| path.exists()), [true, false, false]);
    assert!(shared.exists());
}
