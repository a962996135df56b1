//! A disk that is full, and is given room again.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::hands::says;
use crate::broker::Broker;
use crate::chaos::is_asked_for;
use crate::chaos::scene::Scene;
use crate::peer::read_until;

/// A file system in memory on a folder, taken away when dropped.
struct Disk<'p> {
    folder: &'p Path,
}

impl<'p> Disk<'p> {
    /// Mounts one of that size; says so where that is not allowed.
    fn on(folder: &'p Path, size: &str) -> Option<Disk<'p>> {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Disk { folder }),
            Ok(output) => {
                eprintln!("SKIPPED, no small disk can be mounted: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("SKIPPED, no small disk can be mounted: {error}");
                None
            }
        }
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(self.folder).status().unwrap().success());
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.folder).status();
    }
}

#[test]
fn a_full_disk_holds_up_the_archive_alone_and_every_row_comes_once_there_is_room() {
    if !is_asked_for() {
        return;
    }
    let Some(broker) = Broker::start() else { return };
    let scene = Scene::ward(broker, 20, 96);
    let calm = scene.calm();
    let place = scene.place("full");
    let library = place.dir.path().join("library");
    let Some(disk) = Disk::on(&library, "256k") else { return };
    let mut daemon = place.daemon("normalize,score,archive");
    says(&daemon, "No space left", Duration::from_secs(60));
    // The other roles go on meanwhile.
    let wanted = calm.seen(false).counts()["scores"];
    let bootstrap = &scene.broker.bootstrap;
    read_until(bootstrap, "full.scores", Duration::from_secs(60), |scores| scores.len() >= wanted);
    assert!(daemon.is_alive());
    disk.resize("64m");
    let freed = Instant::now();
    let difference = loop {
        let difference = scene.seen(&place, "full", false).differs(calm.seen(false));
        if difference.is_none() || freed.elapsed() > Duration::from_secs(60) {
            break difference;
        }
        std::thread::sleep(Duration::from_millis(500));
    };
    assert!(difference.is_none(), "{}:\n{}", difference.unwrap(), daemon.log());
    println!("made up for {:.1} s after there was room", freed.elapsed().as_secs_f64());
    assert_eq!(daemon.terminate(), Some(0));
    let difference = scene.seen(&place, "full", false).differs(calm.seen(false));
    assert!(difference.is_none(), "{}", difference.unwrap());
    drop(disk);
}
