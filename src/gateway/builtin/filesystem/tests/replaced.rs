//! What becomes of a root whose path leads somewhere else while the server runs.

use super::*;

/// `link` leads to `target` from now on, in one step, as deployments do it.
fn relink(link: &Path, target: &str) {
    let fresh = link.with_extension("fresh");
    symlink(target, &fresh).unwrap();
    fs::rename(fresh, link).unwrap();
}

fn write(server: &Filesystem, path: &str, content: &str) -> Result<String, String> {
    call(server, "write_file", json!({ "path": path, "content": content }))
}

#[test]
fn a_root_follows_its_path_when_the_link_of_a_deployment_moves_on() {
    let site = site();
    let current = site.outside.join("current");
    for release in ["r1", "r2"] {
        fs::create_dir(site.outside.join(release)).unwrap();
        fs::write(site.outside.join(release).join("version"), release).unwrap();
    }
    relink(&current, "r1");
    let server = Filesystem::new(vec![current.clone()], None, None).unwrap();
    assert_eq!(read(&server, "version").unwrap(), "r1");
    relink(&current, "r2");
    assert_eq!(read(&server, "version").unwrap(), "r2");
    let (old, new) = (site.outside.join("r1/new"), site.outside.join("r2/new"));
    write(&server, &current.join("new").display().to_string(), "new").unwrap();
    assert!(new.exists() && !old.exists());
    // What the path no longer leads to is outside.
    assert!(write(&server, &old.display().to_string(), "old").unwrap_err().starts_with("Access denied"));
    assert!(!old.exists());
}

#[test]
fn a_root_that_is_gone_is_named_the_others_stay_and_it_works_again_when_it_is_back() {
    let site = site();
    let server = Filesystem::new(vec![site.root.clone(), site.outside.clone()], None, None).unwrap();
    fs::rename(&site.root, site.outside.join("away")).unwrap();
    let named = format!("root `{}`: No such file", site.root.display());
    for (tool, arguments) in [
        ("read_text_file", json!({ "path": "a.txt" })),
        ("list_directory", json!({ "path": "." })),
        ("write_file", json!({ "path": site.path("b.txt"), "content": "b" })),
        ("edit_file", json!({ "path": "a.txt", "edits": [] })),
        ("move_file", json!({ "source": "a.txt", "destination": "c.txt" })),
        ("create_directory", json!({ "path": "new" })),
    ] {
        let refused = call(&server, tool, arguments).unwrap_err();
        assert!(refused.contains(&named), "{tool}: {refused}");
    }
    symlink(site.path("a.txt"), site.outside.join("door")).unwrap();
    let outside = |name: &str| site.outside.join(name).display().to_string();
    assert_eq!(read(&server, &outside("secret.txt")).unwrap(), "SECRET");
    assert!(read(&server, &outside("door")).unwrap_err().contains(&named));
    fs::create_dir(&site.root).unwrap();
    fs::write(site.root.join("a.txt"), "new").unwrap();
    assert_eq!(read(&server, "a.txt").unwrap(), "new");
    assert_eq!(read(&server, &outside("door")).unwrap(), "new");
    assert_eq!(call(&server, "list_directory", json!({ "path": "." })).unwrap(), "[FILE] a.txt");
    let away = fs::read_to_string(site.outside.join("away/a.txt")).unwrap();
    assert_eq!(away, "one\ntwo\nthree\n");
}

#[test]
fn no_root_comes_to_lie_inside_the_stations_home() {
    let site = site();
    let home = site.outside.join("home");
    let workspace = home.join("environments/dev/workspace");
    fs::create_dir_all(&workspace).unwrap();
    fs::write(home.join("station.yml"), "key: 1\n").unwrap();
    fs::write(workspace.join("w.txt"), "w").unwrap();
    let link = site.outside.join("link");
    relink(&link, "../root");
    let start = |root: &Path| Filesystem::new(vec![root.to_owned()], Some(home.clone()), Some(workspace.clone()));
    let (linked, own) = (start(&link).unwrap(), start(&workspace).unwrap());
    assert_eq!(read(&own, "w.txt").unwrap(), "w");
    // Each is refused while it leads into the home, and comes back.
    relink(&link, "home");
    fs::remove_dir_all(&workspace).unwrap();
    symlink("../..", &workspace).unwrap();
    for server in [&linked, &own] {
        for path in ["station.yml", "."] {
            assert!(read(server, path).unwrap_err().contains("inside the station's home"), "{path}");
        }
        assert!(write(server, "station.yml", "x").unwrap_err().contains("inside the station's home"));
    }
    assert!(start(&workspace).is_err());
    relink(&link, "home/environments/dev");
    assert!(write(&linked, "a.prompt", "x").is_err());
    // A link out of the home is what its owner made it.
    relink(&workspace, site.root.to_str().unwrap());
    assert_eq!(read(&own, "a.txt").unwrap(), "one\ntwo\nthree\n");
    relink(&link, "../root");
    assert_eq!(read(&linked, "a.txt").unwrap(), "one\ntwo\nthree\n");
    // Above the home, it is out of reach like everywhere.
    relink(&link, ".");
    relink(&workspace, site.outside.to_str().unwrap());
    for server in [&linked, &own] {
        assert!(read(server, "home/station.yml").unwrap_err().contains("the station's home"));
        assert!(write(server, "home/station.yml", "x").unwrap_err().contains("the station's home"));
        assert_eq!(read(server, "secret.txt").unwrap(), "SECRET");
    }
    assert_eq!(fs::read_to_string(home.join("station.yml")).unwrap(), "key: 1\n");
}
