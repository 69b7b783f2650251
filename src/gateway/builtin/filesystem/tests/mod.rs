mod changes;
mod names;
mod race;
mod reads;
mod replaced;

use super::*;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A root with a few files, and a directory beside it that must stay out of reach.
struct Site {
    _keep: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
}

fn site() -> Site {
    let keep = tempfile::tempdir().unwrap();
    let base = keep.path().canonicalize().unwrap();
    let (root, outside) = (base.join("root"), base.join("outside"));
    fs::create_dir_all(root.join("logs/old")).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(root.join("a.txt"), "one\ntwo\nthree\n").unwrap();
    fs::write(root.join("logs/app.log"), "boom\n").unwrap();
    fs::write(root.join("logs/old/app.log"), "old\n").unwrap();
    fs::write(outside.join("secret.txt"), "SECRET").unwrap();
    Site { _keep: keep, root, outside }
}

impl Site {
    fn server(&self) -> Filesystem {
        Filesystem::new(vec![self.root.clone()], None, None).unwrap()
    }

    fn path(&self, below: &str) -> String {
        self.root.join(below).display().to_string()
    }
}

/// The text of the result, or its block where that isn't text; `Err` when it says `isError`.
fn call(server: &Filesystem, tool: &str, arguments: Value) -> Result<String, String> {
    let result: Value = serde_json::from_str(server.call(tool, &raw(&arguments)).unwrap().get()).unwrap();
    let block = &result["content"][0];
    let text = block["text"].as_str().map_or_else(|| block.to_string(), str::to_owned);
    if result["isError"] == true { Err(text) } else { Ok(text) }
}

fn read(server: &Filesystem, path: &str) -> Result<String, String> {
    call(server, "read_text_file", json!({ "path": path }))
}

#[test]
fn files_are_read_by_absolute_and_relative_path_and_in_parts() {
    let site = site();
    let server = site.server();
    assert_eq!(read(&server, &site.path("a.txt")).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(read(&server, "logs/../a.txt").unwrap(), "one\ntwo\nthree\n");
    assert_eq!(call(&server, "read_text_file", json!({ "path": "a.txt", "head": 1 })).unwrap(), "one");
    assert_eq!(call(&server, "read_text_file", json!({ "path": "a.txt", "tail": 1 })).unwrap(), "three");
    assert!(call(&server, "read_text_file", json!({ "path": "a.txt", "tail": 1, "head": 1 })).is_err());
    assert!(read(&server, "nope").unwrap_err().contains("ENOENT"));
    assert!(read(&server, "logs").unwrap_err().contains("directory"));
    assert!(call(&server, "read_text_file", json!({})).unwrap_err().contains("missing field `path`"));
}

#[test]
fn nothing_outside_the_root_is_reachable() {
    let site = site();
    let server = site.server();
    symlink(&site.outside, site.root.join("absolute")).unwrap();
    symlink("../outside", site.root.join("relative")).unwrap();
    symlink("../outside/secret.txt", site.root.join("file")).unwrap();
    let outside = site.outside.join("secret.txt").display().to_string();
    let sideways = site.path("../outside/secret.txt");
    let prefix = format!("{}2/x", site.root.display());
    for path in
        [&outside, &sideways, "../outside/secret.txt", "absolute/secret.txt", "relative/secret.txt", "file", &prefix]
    {
        let told = read(&server, path).unwrap_err();
        assert!(told.starts_with("Access denied"), "{path}: {told}");
        assert!(call(&server, "write_file", json!({ "path": path, "content": "x" })).is_err(), "{path}");
        assert!(call(&server, "get_file_info", json!({ "path": path })).is_err(), "{path}");
    }
    for path in ["absolute", "relative", ".."] {
        assert!(call(&server, "list_directory", json!({ "path": path })).is_err(), "{path}");
        assert!(call(&server, "search_files", json!({ "path": path, "pattern": "**" })).is_err(), "{path}");
    }
    let found = call(&server, "search_files", json!({ "path": ".", "pattern": "secret" })).unwrap();
    assert_eq!(found, "No matches found");
    assert_eq!(fs::read_to_string(site.outside.join("secret.txt")).unwrap(), "SECRET");
}

#[test]
fn lists_trees_searches_and_facts_read_like_the_official_ones() {
    let site = site();
    let server = site.server();
    let listed = call(&server, "list_directory", json!({ "path": site.path("") })).unwrap();
    assert_eq!(listed, "[FILE] a.txt\n[DIR] logs");
    let tree = call(&server, "directory_tree", json!({ "path": "logs", "excludePatterns": ["old"] })).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&tree).unwrap(), json!([{ "name": "app.log", "type": "file" }]));
    let tree = call(&server, "directory_tree", json!({ "path": "logs" })).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&tree).unwrap()[1]["children"][0]["name"], "app.log");
    let search = |pattern: &str, exclude: Value| {
        let arguments = json!({ "path": site.path(""), "pattern": pattern, "excludePatterns": exclude });
        call(&server, "search_files", arguments).unwrap()
    };
    assert_eq!(search("*.log", json!([])), "No matches found");
    assert_eq!(search("**/*.log", json!(["**/old"])), site.path("logs/app.log"));
    assert_eq!(search("APP", json!([])).lines().count(), 2);
    let info = call(&server, "get_file_info", json!({ "path": "a.txt" })).unwrap();
    assert!(info.starts_with("size: 14\ncreated: ") && info.contains("\nisFile: true\npermissions: "), "{info}");
    let allowed = call(&server, "list_allowed_directories", json!({})).unwrap();
    assert_eq!(allowed, format!("Allowed directories:\n{}", site.root.display()));
    assert!(server.call("rm", &raw(&json!({}))).is_err());
}

#[test]
fn a_write_replaces_the_file_keeps_its_mode_and_leaves_nothing_beside_it() {
    use std::os::unix::fs::PermissionsExt;
    let site = site();
    let server = site.server();
    fs::set_permissions(site.root.join("a.txt"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("a.txt", site.root.join("link")).unwrap();
    let told = call(&server, "write_file", json!({ "path": "link", "content": "new" })).unwrap();
    assert_eq!(told, "Successfully wrote to link");
    assert_eq!(fs::read_to_string(site.root.join("a.txt")).unwrap(), "new");
    assert_eq!(fs::metadata(site.root.join("a.txt")).unwrap().permissions().mode() & 0o777, 0o600);
    call(&server, "write_file", json!({ "path": "logs/new.txt", "content": "ü" })).unwrap();
    assert!(call(&server, "write_file", json!({ "path": "logs", "content": "x" })).is_err());
    let told = call(&server, "write_file", json!({ "path": "no/where", "content": "x" })).unwrap_err();
    assert!(told.starts_with("Parent directory does not exist"), "{told}");
    assert!(call(&server, "write_file", json!({ "path": ".", "content": "x" })).is_err());
    let large = "x".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1);
    assert!(call(&server, "write_file", json!({ "path": "large", "content": large })).is_err());
    let left = call(&server, "search_files", json!({ "path": ".", "pattern": ".tmp" })).unwrap();
    assert_eq!(left, "No matches found");
}

#[test]
fn the_stations_home_is_out_of_reach_but_for_its_workspace() {
    let site = site();
    let home = site.root.join("home");
    let workspace = home.join("environments/dev/workspace");
    fs::create_dir_all(&workspace).unwrap();
    fs::write(workspace.join("w.txt"), "w").unwrap();
    fs::write(home.join("station.yml"), "key").unwrap();
    symlink("home", site.root.join("door")).unwrap();
    let open = |root: &Path| Filesystem::new(vec![root.to_owned()], Some(home.clone()), Some(workspace.clone()));
    assert!(open(&home).is_err());
    assert!(open(&home.join("environments")).is_err());
    assert_eq!(read(&open(&workspace).unwrap(), "w.txt").unwrap(), "w");
    let above = open(&site.root).unwrap();
    for path in ["home/station.yml", "door/station.yml", "home/environments/../station.yml"] {
        assert!(read(&above, path).unwrap_err().contains("the station's home"), "{path}");
        assert!(call(&above, "get_file_info", json!({ "path": path })).is_err(), "{path}");
        assert!(call(&above, "write_file", json!({ "path": path, "content": "x" })).is_err(), "{path}");
    }
    assert!(call(&above, "list_directory", json!({ "path": "home" })).is_err());
    assert_eq!(call(&above, "search_files", json!({ "path": ".", "pattern": "station" })).unwrap(), "No matches found");
    assert!(!call(&above, "directory_tree", json!({ "path": "." })).unwrap().contains("station.yml"));
    assert_eq!(read(&above, "home/environments/dev/workspace/w.txt").unwrap(), "w");
}

#[test]
fn a_pipe_is_refused_without_waiting_for_a_writer() {
    let site = site();
    nix::unistd::mkfifo(&site.root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(read(&site.server(), "pipe").unwrap_err().contains("not a regular file"));
}
