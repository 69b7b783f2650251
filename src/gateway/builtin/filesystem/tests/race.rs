use super::*;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const TRIES: u64 = 100_000;
/// So many of them have to be raced by a swap while they are under way; the others have swaps before and after.
const RACED: u64 = 2_000;

/// Ends the swaps, also when a try panics: the scope waits for them.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The race that path checks lose: a directory is replaced by a link to the outside between the check and the use. Tries go on until
/// there were as many swaps, however the threads are scheduled.
#[test]
fn a_hundred_thousand_tries_against_as_many_swaps_never_reach_a_byte_outside() {
    let site = site();
    let server = site.server();
    let secret = "OUTSIDE".repeat(10);
    fs::write(site.outside.join("secret.txt"), &secret).unwrap();
    fs::write(site.outside.join("OUTSIDE"), "").unwrap();
    fs::create_dir(site.root.join("dir")).unwrap();
    fs::write(site.root.join("dir/secret.txt"), "inside").unwrap();
    symlink(&site.outside, site.root.join("spare")).unwrap();
    fs::write(site.root.join("dir/edit.txt"), "in").unwrap();
    fs::write(site.root.join("pebble"), "").unwrap();
    // Each with what it says about the inside. What changes something waits for the disk, so there is less of it.
    let acts = [
        ("read_text_file", json!({ "path": "dir/secret.txt" }), "inside"),
        ("get_file_info", json!({ "path": "dir/secret.txt" }), "size: 6\n"),
        ("list_directory", json!({ "path": "dir" }), "[FILE] secret.txt"),
        // Where the directory is meanwhile can be either name.
        ("search_files", json!({ "path": "dir", "pattern": "**" }), "/secret.txt"),
        ("directory_tree", json!({ "path": "dir" }), "\"secret.txt\""),
        ("read_multiple_files", json!({ "paths": ["dir/secret.txt", "a.txt"] }), "one\ntwo"),
        ("read_media_file", json!({ "path": "dir/secret.txt" }), "\"aW5zaWRl\""),
        ("list_directory_with_sizes", json!({ "path": "dir" }), "[FILE] secret.txt"),
        ("write_file", json!({ "path": "dir/secret.txt", "content": "inside" }), "Successfully wrote"),
        ("edit_file", json!({ "path": "dir/edit.txt", "edits": [{ "oldText": "in", "newText": "nin" }] }), "original"),
        ("create_directory", json!({ "path": "dir/new/deep" }), "Successfully created"),
        ("move_file", json!({ "source": "pebble", "destination": "dir/pebble" }), "Successfully moved"),
        ("move_file", json!({ "source": "dir/pebble", "destination": "pebble" }), "Successfully moved"),
    ];
    let reads = 8;
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut tries, mut raced, mut leak) = (0, 0, None);
    let (mut done, mut refused) = ([0; 13], [0; 13]);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let swapper = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let (dir, spare) = (site.root.join("dir"), site.root.join("spare"));
                renameat_with(CWD, dir, CWD, spare, RenameFlags::EXCHANGE).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        while leak.is_none()
            && !swapper.is_finished()
            && (tries.min(swaps.load(Ordering::Relaxed)) < TRIES || raced < RACED)
        {
            let count = usize::try_from(tries).unwrap();
            let changes = acts.len() - reads;
            let at = if count % 500 == 499 { reads + count / 500 % changes } else { count % reads };
            let (tool, arguments, inside) = &acts[at];
            let before = swaps.load(Ordering::Relaxed);
            let told = call(&server, tool, arguments.clone());
            raced += u64::from(before != swaps.load(Ordering::Relaxed));
            tries += 1;
            match told {
                Ok(text) if text.contains(inside) && !text.contains("OUTSIDE") => done[at] += 1,
                Err(text) if !text.contains("OUTSIDE") => refused[at] += 1,
                told => leak = Some(format!("{tool}: {told:?}")),
            }
        }
    });
    assert_eq!(leak, None);
    // Of several files, those that can't be read are told among the others.
    refused[5] += 1;
    // A change that waits for the disk hardly ever finds the directory at rest: of those, some were done and some refused in all.
    let counts = [&done[..reads], &refused[..reads]].into_iter().flatten().copied();
    let changes = [&done[reads..], &refused[reads..]].map(|counts| counts.iter().sum::<u64>());
    assert!(counts.chain(changes).all(|count: u64| count > 0), "done {done:?}, refused {refused:?}");
    let mut outside: Vec<_> = fs::read_dir(&site.outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    outside.sort();
    assert_eq!(outside, ["OUTSIDE", "secret.txt"]);
    assert_eq!(fs::read_to_string(site.outside.join("secret.txt")).unwrap(), secret);
}
