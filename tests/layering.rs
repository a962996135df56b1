//! Imports run downwards only.

use std::fs;
use std::path::{Path, PathBuf};

/// Every room with the rooms it may import.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("telemetry", &[]),
    ("settings", &[]),
    ("events", &[]),
    ("library", &["events", "telemetry"]),
    ("kafka", &["settings", "telemetry"]),
    ("decode", &["events", "settings"]),
    ("normalize", &["decode", "events", "settings"]),
    ("features", &["events", "settings"]),
    ("models", &["settings"]),
    ("alerts", &["models", "events", "settings"]),
    ("learn", &["features", "models", "alerts", "library", "events", "settings", "telemetry"]),
    (
        "roles",
        &[
            "decode",
            "normalize",
            "features",
            "models",
            "alerts",
            "learn",
            "kafka",
            "library",
            "events",
            "settings",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "roles",
            "decode",
            "normalize",
            "features",
            "models",
            "alerts",
            "learn",
            "kafka",
            "library",
            "events",
            "settings",
            "telemetry",
        ],
    ),
];

#[test]
fn imports_run_downwards_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut edges = 0;
    for (room, allowed) in ALLOWED {
        let files = rust_files(&src.join(room));
        assert!(!files.is_empty(), "the room {room} has no files");
        for file in files {
            for (line, text) in fs::read_to_string(&file).unwrap().lines().enumerate() {
                for target in text.split("crate::").skip(1) {
                    let target: String = target.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    let known = ALLOWED.iter().any(|(name, _)| *name == target);
                    if known && target != room {
                        edges += 1;
                        assert!(
                            allowed.contains(&target.as_str()),
                            "{}:{}: {room} must not import {target}",
                            file.display(),
                            line + 1
                        );
                    }
                }
            }
        }
    }
    assert!(edges > 30, "only {edges} imports found: does this test still read the code?");
}

#[test]
fn no_file_is_over_700_lines() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in rust_files(&src) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 700, "{} has {lines} lines", file.display());
    }
}

pub fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}
