//! The tools that change files, and what they must not change.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn edit(server: &Filesystem, path: &str, edits: &[(&str, &str)], dry_run: bool) -> Result<String, String> {
    let edits: Vec<Value> = edits.iter().map(|(old, new)| json!({ "oldText": old, "newText": new })).collect();
    call(server, "edit_file", json!({ "path": path, "edits": edits, "dryRun": dry_run }))
}

fn moved(server: &Filesystem, source: &str, destination: &str) -> Result<String, String> {
    call(server, "move_file", json!({ "source": source, "destination": destination }))
}

#[test]
fn edits_are_made_all_or_none_and_a_dry_run_changes_nothing() {
    let site = site();
    let server = site.server();
    let file = site.root.join("a.txt");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let failed = edit(&server, "a.txt", &[("one", "1"), ("four", "4")], false).unwrap_err();
    assert_eq!(failed, "Could not find exact match for edit:\nfour");
    let shown = edit(&server, "a.txt", &[("one", "1"), ("1\ntwo", "1\n2")], true).unwrap();
    assert!(shown.contains("@@ -1,3 +1,3 @@\n-one\n-two\n+1\n+2\n three\n"), "{shown}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(edit(&server, "a.txt", &[("one", "1"), ("1\ntwo", "1\n2")], false).unwrap(), shown);
    assert_eq!(fs::read_to_string(&file).unwrap(), "1\n2\nthree\n");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let misspelt = json!({ "path": "a.txt", "edits": [{ "oldText": "1", "newTxt": "2" }] });
    assert!(call(&server, "edit_file", misspelt).unwrap_err().contains("missing field `newText`"));
    // The schema says nothing of further keys.
    let more = json!({ "path": "a.txt", "edits": [{ "oldText": "1", "newText": "I", "why": "shorter" }] });
    call(&server, "edit_file", more).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "I\n2\nthree\n");
}

#[test]
fn an_edit_keeps_windows_line_endings_and_refuses_what_is_no_text() {
    let site = site();
    let server = site.server();
    fs::write(site.root.join("dos.txt"), "one\r\ntwo\r\n").unwrap();
    let shown = edit(&server, "dos.txt", &[("one\n", "one\nand\n")], false).unwrap();
    assert!(shown.contains(" one\n+and\n two\n"), "{shown:?}");
    assert_eq!(fs::read_to_string(site.root.join("dos.txt")).unwrap(), "one\r\nand\r\ntwo\r\n");
    fs::write(site.root.join("binary"), b"ab\xffcd").unwrap();
    let refused = edit(&server, "binary", &[("ab", "x")], false).unwrap_err();
    assert_eq!(refused, "binary isn't UTF-8 text (byte 2): editing it would damage it");
    assert_eq!(fs::read(site.root.join("binary")).unwrap(), b"ab\xffcd");
}

#[test]
fn edits_at_the_same_time_are_all_kept() {
    let site = site();
    let server = site.server();
    let marks: String = (0..8).map(|n| format!("<{n}>\n")).collect();
    fs::write(site.root.join("shared.txt"), marks).unwrap();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let server = &server;
            scope.spawn(move || edit(server, "shared.txt", &[(&format!("<{n}>"), "done")], false).unwrap());
        }
    });
    assert_eq!(fs::read_to_string(site.root.join("shared.txt")).unwrap(), "done\n".repeat(8));
}

#[test]
fn a_move_never_replaces_anything() {
    let site = site();
    let server = site.server();
    fs::create_dir(site.root.join("empty")).unwrap();
    symlink("nowhere", site.root.join("dangling")).unwrap();
    for destination in ["logs/app.log", "empty", "logs", "dangling", "a.txt"] {
        let refused = moved(&server, "a.txt", destination).unwrap_err();
        assert_eq!(refused, format!("Destination already exists: {destination}"));
    }
    assert_eq!(moved(&server, "a.txt", "logs/b.txt").unwrap(), "Successfully moved a.txt to logs/b.txt");
    assert_eq!(fs::read_to_string(site.root.join("logs/b.txt")).unwrap(), "one\ntwo\nthree\n");
    assert!(moved(&server, "logs", "logs/inside").unwrap_err().contains("into itself"));
    assert!(moved(&server, "a.txt", "c.txt").unwrap_err().contains("ENOENT"));
    assert!(moved(&server, "logs", "no/where").unwrap_err().contains("ENOENT"));
    assert!(moved(&server, ".", "c").unwrap_err().contains("allowed directory itself"));
    moved(&server, "logs", "empty/logs").unwrap();
    assert_eq!(read(&server, "empty/logs/old/app.log").unwrap(), "old\n");
}

#[test]
fn a_link_is_moved_itself_and_nothing_is_moved_out_or_in() {
    let site = site();
    let server = site.server();
    symlink(site.outside.join("secret.txt"), site.root.join("link")).unwrap();
    symlink(&site.outside, site.root.join("door")).unwrap();
    moved(&server, "link", "logs/link").unwrap();
    assert!(fs::symlink_metadata(site.root.join("logs/link")).unwrap().is_symlink());
    for (source, destination) in [("a.txt", "door/a.txt"), ("door/secret.txt", "s.txt"), ("a.txt", "../a.txt")] {
        assert!(moved(&server, source, destination).unwrap_err().starts_with("Access denied"), "{source}");
    }
    for path in ["door/new", "../new", "logs/../../new"] {
        assert!(call(&server, "create_directory", json!({ "path": path })).is_err(), "{path}");
    }
    assert!(call(&server, "read_media_file", json!({ "path": "door/secret.txt" })).is_err());
    let read = call(&server, "read_multiple_files", json!({ "paths": ["door/secret.txt"] })).unwrap();
    assert!(read.starts_with("door/secret.txt: Error - Access denied"), "{read}");
    let sizes = call(&server, "list_directory_with_sizes", json!({ "path": "logs" })).unwrap();
    assert!(sizes.contains(&format!("[FILE] {:<30} {:>10}", "link", "0 B")), "{sizes}");
    assert_eq!(fs::read_dir(&site.outside).unwrap().count(), 1);
}

#[test]
fn directories_are_created_with_those_above_them() {
    let site = site();
    let server = site.server();
    let create = |path: &str| call(&server, "create_directory", json!({ "path": path }));
    assert_eq!(create("x/y/z").unwrap(), "Successfully created directory x/y/z");
    assert!(site.root.join("x/y/z").is_dir());
    create(&site.path("x/y/z")).unwrap();
    assert!(create("a.txt").is_err());
    assert!(create("a.txt/b").is_err());
    assert!(create("new/../../outside2").unwrap_err().contains("`..` follows"), "nothing is guessed");
    symlink("nowhere", site.root.join("dangling")).unwrap();
    assert!(create("dangling/x").is_err());
    assert!(!site.root.join("nowhere").exists() && !site.root.join("new").exists());
}

#[test]
fn the_stations_home_is_neither_moved_nor_written_into() {
    let site = site();
    let home = site.root.join("above/home");
    let workspace = home.join("environments/dev/workspace");
    fs::create_dir_all(&workspace).unwrap();
    fs::write(home.join("station.yml"), "key: 1\n").unwrap();
    let server = Filesystem::new(vec![site.root.clone()], Some(home.clone()), Some(workspace.clone())).unwrap();
    for source in ["above", "above/home", "above/home/station.yml", "above/home/environments/dev/workspace"] {
        let refused = moved(&server, source, "stolen").unwrap_err();
        assert!(refused.contains("the station's home"), "{source}: {refused}");
    }
    assert!(moved(&server, "a.txt", "above/home/a.txt").unwrap_err().contains("the station's home"));
    assert!(call(&server, "create_directory", json!({ "path": "above/home/new/deep" })).is_err());
    assert!(edit(&server, "above/home/station.yml", &[("1", "2")], false).is_err());
    assert!(call(&server, "read_media_file", json!({ "path": "above/home/station.yml" })).is_err());
    let inside = "above/home/environments/dev/workspace/notes/today";
    call(&server, "create_directory", json!({ "path": inside })).unwrap();
    moved(&server, "a.txt", &format!("{inside}/a.txt")).unwrap();
    assert_eq!(fs::read_to_string(home.join("station.yml")).unwrap(), "key: 1\n");
    assert!(!home.join("new").exists());
}

#[test]
fn what_is_too_large_or_no_text_is_named() {
    let site = site();
    let server = site.server();
    let large = fs::File::create(site.root.join("large.png")).unwrap();
    large.set_len(MAX_FILE_BYTES + 1).unwrap();
    for (tool, arguments) in [
        ("read_media_file", json!({ "path": "large.png" })),
        ("read_text_file", json!({ "path": "large.png" })),
        ("edit_file", json!({ "path": "large.png", "edits": [] })),
    ] {
        let refused = call(&server, tool, arguments).unwrap_err();
        assert!(refused.starts_with("large.png has 10485761 bytes; at most "), "{tool}: {refused}");
    }
    large.set_len(MAX_FILE_BYTES - 5).unwrap();
    let read =
        call(&server, "read_multiple_files", json!({ "paths": ["a.txt", "large.png", "logs/app.log"] })).unwrap();
    assert!(read.contains("\n---\nlarge.png: Error - large.png has 10485755 bytes; at most 10485746 are read"));
    assert!(read.ends_with("\n---\nlogs/app.log:\nboom\n\n"));
    fs::write(site.root.join("latin1.txt"), b"caf\xe9\n").unwrap();
    for (tool, arguments) in [
        ("read_text_file", json!({ "path": "latin1.txt" })),
        ("read_multiple_files", json!({ "paths": ["latin1.txt"] })),
    ] {
        let result: Value = serde_json::from_str(server.call(tool, &raw(&arguments)).unwrap().get()).unwrap();
        let note = result["content"][1]["text"].as_str().unwrap();
        assert!(note.starts_with("(latin1.txt isn't UTF-8 text"), "{result}");
        assert!(result["structuredContent"]["content"].as_str().unwrap().contains("caf\u{fffd}\n"), "{result}");
    }
    assert!(read_text_refuses_windows_paths(&server));
}

fn read_text_refuses_windows_paths(server: &Filesystem) -> bool {
    ["C:\\x", "c:/x", "D:"].iter().all(|path| read(server, path).unwrap_err().contains("Windows-style path"))
}

#[test]
fn many_edits_of_a_large_file_are_refused_before_anybody_waits_for_them() {
    let site = site();
    let server = site.server();
    fs::write(site.root.join("large.txt"), "abcdefg\n".repeat(1 << 20)).unwrap();
    let refused = edit(&server, "large.txt", &[("abc", "abd"); 33], false).unwrap_err();
    assert!(refused.contains("33 edits") && refused.contains("make 31 at a time"), "{refused}");
    // Also where it is an edit that makes it large.
    let grown = "x".repeat(8 << 20);
    let refused = edit(&server, "a.txt", &[[("one", grown.as_str())].as_slice(), &[("x", "x"); 40]].concat(), true);
    assert!(refused.unwrap_err().contains("too much for one call"));
}
