//! The ways in which a path can mean a file that isn't named as the path says: links, and other spellings of a name.

use super::*;

fn write(server: &Filesystem, path: &str, content: &str) -> Result<String, String> {
    call(server, "write_file", json!({ "path": path, "content": content }))
}

#[test]
fn links_with_absolute_targets_are_followed_inside_the_roots() {
    let site = site();
    let other = site.outside.parent().unwrap().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("there.txt"), "there").unwrap();
    let server = Filesystem::new(vec![site.root.clone(), other.clone()], None, None).unwrap();
    symlink(site.root.join("a.txt"), site.root.join("file")).unwrap();
    symlink(site.root.join("logs/../logs"), site.root.join("dir")).unwrap();
    symlink("dir/old", site.root.join("through")).unwrap();
    symlink(&other, site.root.join("beside")).unwrap();
    assert_eq!(read(&server, "file").unwrap(), "one\ntwo\nthree\n");
    assert_eq!(read(&server, "dir/app.log").unwrap(), "boom\n");
    assert_eq!(read(&server, &site.path("through/app.log")).unwrap(), "old\n");
    assert_eq!(read(&server, "beside/there.txt").unwrap(), "there");
    let edits = json!({ "path": "file", "edits": [{ "oldText": "two", "newText": "2" }] });
    assert!(call(&server, "edit_file", edits).unwrap().contains("a.txt\toriginal"));
    assert_eq!(fs::read_to_string(site.root.join("a.txt")).unwrap(), "one\n2\nthree\n");
    write(&server, "file", "four").unwrap();
    write(&server, "dir/new.txt", "new").unwrap();
    write(&server, "beside/new.txt", "new").unwrap();
    call(&server, "create_directory", json!({ "path": "through/x/y" })).unwrap();
    call(&server, "create_directory", json!({ "path": "beside/x" })).unwrap();
    call(&server, "move_file", json!({ "source": "dir/new.txt", "destination": "beside/x/moved.txt" })).unwrap();
    assert_eq!(fs::read_to_string(site.root.join("a.txt")).unwrap(), "four");
    assert!(fs::symlink_metadata(site.root.join("file")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(other.join("new.txt")).unwrap(), "new");
    assert_eq!(fs::read_to_string(other.join("x/moved.txt")).unwrap(), "new");
    assert!(site.root.join("logs/old/x/y").is_dir());
    assert_eq!(
        call(&server, "list_directory", json!({ "path": "beside" })).unwrap(),
        "[FILE] new.txt\n[FILE] there.txt\n[DIR] x"
    );
    let sizes = call(&server, "list_directory_with_sizes", json!({ "path": "." })).unwrap();
    assert!(sizes.contains(&format!("[FILE] {:<30} {:>10}", "file", "4 B")), "{sizes}");
    assert!(call(&server, "get_file_info", json!({ "path": "dir/app.log" })).unwrap().starts_with("size: 5\n"));
    // The link itself is moved.
    call(&server, "move_file", json!({ "source": "file", "destination": "logs/file" })).unwrap();
    assert_eq!(fs::read_link(site.root.join("logs/file")).unwrap(), site.root.join("a.txt"));
}

#[test]
fn links_that_lead_out_or_round_or_nowhere_are_refused_with_the_reason() {
    let site = site();
    let server = site.server();
    for (target, name) in [
        (site.root.join("../outside/secret.txt"), "sideways"),
        (site.root.join("logs/../../outside/secret.txt"), "deeper"),
        (PathBuf::from(format!("{}2", site.root.display())), "beside"),
        (site.outside.join("secret.txt"), "out"),
        (site.root.join("out"), "twice"),
        (site.outside.join("new.txt"), "dangling_out"),
    ] {
        symlink(target, site.root.join(name)).unwrap();
        assert!(read(&server, name).unwrap_err().contains("outside allowed directories"), "{name}");
        assert!(write(&server, name, "x").unwrap_err().contains("outside allowed directories"), "{name}");
    }
    symlink(site.root.join("round"), site.root.join("round")).unwrap();
    assert!(read(&server, "round").unwrap_err().contains("symbolic links"));
    symlink("nowhere", site.root.join("dangling")).unwrap();
    symlink(site.root.join("nowhere"), site.root.join("absolute")).unwrap();
    for name in ["dangling", "absolute"] {
        assert!(read(&server, name).unwrap_err().contains("ENOENT"), "{name}");
        let refused = write(&server, name, "x").unwrap_err();
        assert_eq!(refused, format!("{name} is a link to a file that doesn't exist: write that file itself"));
        assert!(fs::symlink_metadata(site.root.join(name)).unwrap().is_symlink());
    }
    assert!(!site.root.join("nowhere").exists() && !site.outside.join("new.txt").exists());
    // What can't be reached isn't found either.
    let found = call(&server, "search_files", json!({ "path": ".", "pattern": "*" })).unwrap();
    assert_eq!(found, [site.path("a.txt"), site.path("logs")].join("\n"));
}

#[test]
fn a_link_with_an_absolute_target_does_not_lead_into_the_stations_home() {
    let site = site();
    let (home, beside) = (site.root.join("home"), site.root.parent().unwrap().join("beside"));
    fs::create_dir_all(home.join("workspace")).unwrap();
    fs::create_dir(&beside).unwrap();
    fs::write(home.join("station.yml"), "key").unwrap();
    symlink(home.join("station.yml"), site.root.join("file")).unwrap();
    symlink(&home, beside.join("door")).unwrap();
    let roots = vec![beside.clone(), site.root.clone()];
    let server = Filesystem::new(roots, Some(home.clone()), Some(home.join("workspace"))).unwrap();
    for path in [site.path("file"), "door/station.yml".into()] {
        assert!(read(&server, &path).unwrap_err().contains("the station's home"), "{path}");
        assert!(write(&server, &path, "x").unwrap_err().contains("the station's home"), "{path}");
    }
    write(&server, "door/workspace/new.txt", "new").unwrap();
    assert_eq!(fs::read_to_string(home.join("station.yml")).unwrap(), "key");
}

#[test]
fn a_name_is_found_in_either_unicode_form_and_gets_no_twin() {
    let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
    let site = site();
    let server = site.server();
    fs::create_dir(site.root.join(decomposed)).unwrap();
    fs::write(site.root.join(format!("{decomposed}/{composed}.txt")), "old").unwrap();
    let asked = format!("{composed}/{decomposed}.txt");
    assert_eq!(read(&server, &asked).unwrap(), "old");
    write(&server, &asked, "new").unwrap();
    write(&server, &format!("{composed}/beside.txt"), "b").unwrap();
    call(&server, "create_directory", json!({ "path": format!("{composed}/x/y") })).unwrap();
    call(&server, "create_directory", json!({ "path": composed })).unwrap();
    let listed = call(&server, "list_directory", json!({ "path": composed })).unwrap();
    assert_eq!(listed, format!("[FILE] beside.txt\n[FILE] {composed}.txt\n[DIR] x"));
    let moved = |source: &str, destination: &str| {
        call(&server, "move_file", json!({ "source": source, "destination": destination }))
    };
    assert!(moved("a.txt", &asked).unwrap_err().contains("already exists"));
    moved(&asked, "moved.txt").unwrap();
    assert_eq!(read(&server, "moved.txt").unwrap(), "new");
    assert_eq!(fs::read_dir(&site.root).unwrap().count(), 4);
    // Two names that are equivalent to the one that was asked for, and neither is it.
    for name in ["\u{1e69}", "s\u{307}\u{323}"] {
        fs::write(site.root.join(name), name).unwrap();
        assert_eq!(read(&server, name).unwrap(), name);
    }
    assert!(read(&server, "s\u{323}\u{307}").unwrap_err().contains("several names"));
    assert!(write(&server, "s\u{323}\u{307}", "x").is_err());
}

#[test]
fn the_longest_names_are_written_and_edited() {
    let site = site();
    let server = site.server();
    let name = "n".repeat(255);
    write(&server, &name, "one").unwrap();
    let edits = json!({ "path": name, "edits": [{ "oldText": "one", "newText": "two" }] });
    call(&server, "edit_file", edits).unwrap();
    assert_eq!(read(&server, &name).unwrap(), "two");
    let refused = call(&server, "move_file", json!({ "source": "a.txt", "destination": "n".repeat(256) })).unwrap_err();
    assert!(refused.starts_with("a.txt can't be moved to nnn") && refused.contains("too long"), "{refused}");
}

#[test]
fn a_search_gives_whole_paths_wherever_it_starts() {
    let site = site();
    let server = site.server();
    symlink("logs", site.root.join("link")).unwrap();
    for start in ["logs", "logs/", "./logs", "link", &site.path("logs/old/..")] {
        let found = call(&server, "search_files", json!({ "path": start, "pattern": "**/*.log" })).unwrap();
        assert_eq!(found, [site.path("logs/app.log"), site.path("logs/old/app.log")].join("\n"), "{start}");
    }
}
