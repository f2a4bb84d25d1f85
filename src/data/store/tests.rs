//! The store against a small server on this machine's loopback address.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::*;
use crate::data::Samples;
use crate::data::idx::NAMES;
use crate::data::idx::tests::{gzip, hex_sum, tiny};

/// How a server answers requests for one file.
#[derive(Clone)]
enum Answer {
    /// All of it, or the range that was asked for.
    Good(Vec<u8>),
    /// The same, but the first connection ends after that many bytes.
    Drops(Vec<u8>, usize),
    /// All of it, whatever range was asked for; the first connection ends after that many bytes.
    NoRanges(Vec<u8>, usize),
    NotFound,
}

/// A server for a bounded number of connections; requests are remembered as "PATH RANGE".
struct Server {
    base: String,
    requests: Arc<Mutex<Vec<String>>>,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(answers: Vec<(String, Answer)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = mpsc::channel();
        let seen = Arc::clone(&requests);
        let thread = std::thread::spawn(move || {
            for _ in 0..100 {
                let Ok((stream, _)) = listener.accept() else { return };
                if stopped.try_recv().is_ok() {
                    return;
                }
                // A client that goes away early is the client's business.
                let _ = serve(stream, &answers, &seen);
            }
        });
        Self { base, requests, stop, thread: Some(thread) }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        let _ = TcpStream::connect(self.base.trim_start_matches("http://").trim_end_matches('/'));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut stream: TcpStream,
    answers: &[(String, Answer)],
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = request.split(' ').nth(1).unwrap_or("").trim_start_matches('/').to_owned();
    let mut range = None;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("range: bytes=") {
            range = value.trim_end_matches('-').parse::<usize>().ok();
        }
    }
    let first = {
        let mut seen = seen.lock().unwrap();
        let first = !seen.iter().any(|line: &String| line.split(' ').next() == Some(&path));
        seen.push(format!("{path} {range:?}"));
        first
    };
    let answer =
        answers.iter().find(|(name, _)| *name == path).map_or(&Answer::NotFound, |(_, answer)| answer);
    let (content, stop, ranges) = match answer {
        Answer::NotFound => {
            return stream
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngone");
        }
        Answer::Good(content) => (content, usize::MAX, true),
        Answer::Drops(content, stop) => (content, if first { *stop } else { usize::MAX }, true),
        Answer::NoRanges(content, stop) => (content, if first { *stop } else { usize::MAX }, false),
    };
    let start = range.filter(|_| ranges).unwrap_or(0);
    if start >= content.len() {
        return stream.write_all(
            b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    let body = &content[start..];
    let status = if range.is_some() && ranges {
        let (last, total) = (content.len() - 1, content.len());
        format!("206 Partial Content\r\nContent-Range: bytes {start}-{last}/{total}")
    } else {
        "200 OK".into()
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body[..body.len().min(stop)])
}

/// A data set of the tiny files, with the right sums.
fn known(published: bool) -> Known {
    let files = tiny();
    let mut at = 0;
    let files = NAMES.map(|name| {
        let content = &files[at];
        at += 1;
        let sum =
            if published { Sum::Published(hex_sum(&gzip(content))) } else { Sum::Content(hex_sum(content)) };
        KnownFile { name: name.into(), dimensions: if at % 2 == 1 { 3 } else { 1 }, sum }
    });
    Known {
        name: "tiny".into(),
        title: "for tests".into(),
        licence: "none",
        home: "",
        classes: 3,
        folder: "tiny",
        files,
        mirrors: &[],
        archive: None,
        first_label: 0,
        transposed: false,
    }
}

/// The four files served well, but `special` for the training images.
fn answers(special: Answer) -> Vec<(String, Answer)> {
    let mut answers: Vec<_> = NAMES
        .iter()
        .zip(tiny())
        .map(|(name, content)| (format!("{name}.gz"), Answer::Good(gzip(&content))))
        .collect();
    answers[0].1 = special;
    answers
}

fn images() -> Vec<u8> {
    gzip(&tiny()[0])
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store { dir: folder.path().into(), offline: false };
    (folder, store)
}

/// Fetches from these servers; the names left in the folder, sorted, and the result.
fn fetch(store: &Store, known: &Known, servers: &[&Server]) -> (Vec<String>, Result<Vec<FileRecord>>) {
    let mirrors: Vec<_> = servers.iter().map(|server| server.base.clone()).collect();
    let result = store.fetch_missing(known, &mirrors, &mut ()).and_then(|()| store.verify_known(known));
    (names(&store.folder(known)), result)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.retain(|name| name != ".lock");
    names.sort();
    names
}

fn four() -> Vec<String> {
    let mut names: Vec<_> = NAMES.iter().map(|name| format!("{name}.gz")).collect();
    names.sort();
    names
}

#[test]
fn a_good_server() {
    let (server, (_folder, store)) = (Server::start(answers(Answer::Good(images()))), store());
    let (names, records) = fetch(&store, &known(false), &[&server]);
    assert!(records.unwrap().iter().all(|record| record.checked == Checked::Content));
    assert_eq!(names, four());
    let data = store.read(&known(false)).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (5, 2));
    // What is there is not fetched again.
    let before = server.requests().len();
    fetch(&store, &known(false), &[&server]).1.unwrap();
    assert_eq!((before, server.requests().len()), (4, 4));
}

#[test]
fn a_connection_that_breaks_off_is_resumed() {
    let (server, (_folder, store)) = (Server::start(answers(Answer::Drops(images(), 20))), store());
    let (names, records) = fetch(&store, &known(false), &[&server]);
    records.unwrap();
    assert_eq!(names, four());
    let image = format!("{}.gz", NAMES[0]);
    assert_eq!(server.requests()[..2], [format!("{image} None"), format!("{image} Some(20)")]);
}

#[test]
fn a_download_is_resumed_by_the_next_run_and_by_another_mirror() {
    let (_folder, store) = store();
    let broken =
        Server::start(vec![(format!("{}.gz", NAMES[0]), Answer::NoRanges(images()[..20].to_vec(), 20))]);
    let (names, error) = fetch(&store, &known(false), &[&broken]);
    // Its 20 bytes are a whole answer, but no whole file: refused and removed.
    assert!(matches!(error.unwrap_err(), Error::Missing { .. }));
    assert!(names.is_empty(), "{names:?}");
    std::fs::write(store.folder(&known(false)).join(format!("{}.gz.part", NAMES[0])), &images()[..13])
        .unwrap();
    let good = Server::start(answers(Answer::Good(images())));
    fetch(&store, &known(false), &[&good]).1.unwrap();
    assert_eq!(good.requests()[0], format!("{}.gz Some(13)", NAMES[0]));
}

#[test]
fn a_server_without_ranges_starts_over() {
    let (server, (_folder, store)) = (Server::start(answers(Answer::NoRanges(images(), 20))), store());
    fetch(&store, &known(false), &[&server]).1.unwrap();
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_stale_part_is_thrown_away() {
    for stale in [b"something else".to_vec(), [images(), b"and more".to_vec()].concat(), images()] {
        let (server, (_folder, store)) = (Server::start(answers(Answer::Good(images()))), store());
        let folder = store.folder(&known(false));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{}.gz.part", NAMES[0])), &stale).unwrap();
        let (names, records) = fetch(&store, &known(false), &[&server]);
        records.unwrap();
        assert_eq!(names, four());
    }
}

#[test]
fn a_wrong_sum_goes_on_to_the_next_mirror() {
    let mut other = tiny()[0].clone();
    other[20] ^= 1;
    let bad = Server::start(answers(Answer::Good(gzip(&other))));
    let good = Server::start(answers(Answer::Good(images())));
    let (_folder, store) = store();
    let (names, records) = fetch(&store, &known(false), &[&bad, &good]);
    records.unwrap();
    assert_eq!(names, four());
    assert_eq!((bad.requests().len(), good.requests().len()), (4, 1));
}

#[test]
fn when_all_mirrors_fail_every_attempt_is_listed() {
    let mut other = tiny()[0].clone();
    other[20] ^= 1;
    let wrong = Server::start(answers(Answer::Good(gzip(&other))));
    let gone = Server::start(answers(Answer::NotFound));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_folder, store) = store();
    let mirrors = [wrong.base.clone(), gone.base.clone(), format!("http://{closed}/")];
    let Error::Missing { dataset, attempts, .. } =
        store.fetch_missing(&known(false), &mirrors, &mut ()).unwrap_err()
    else {
        panic!()
    };
    assert_eq!((dataset.as_str(), attempts.len()), ("tiny", 3));
    for (attempt, says) in attempts.iter().zip(["SHA-256 of its decompressed content", "HTTP 404", "http://"])
    {
        assert!(attempt.contains(says), "{attempt:?} should contain {says:?}");
    }
    assert!(attempts.iter().zip(&mirrors).all(|(attempt, base)| attempt.starts_with(base)));
}

#[test]
fn a_file_that_is_too_large_is_not_taken() {
    let server = Server::start(vec![("big".into(), Answer::Good(vec![7; 5000]))]);
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("big.part");
    let urls = [format!("{}big", server.base)];
    let download = Download { urls: &urls, part: &part, limit: 4999, patience: PATIENCE };
    let mut attempts = Vec::new();
    assert!(download.run(|_| Ok(()), &mut attempts, &mut ()).unwrap().is_none());
    assert!(attempts[0].contains("offers 5000 bytes"), "{attempts:?}");
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let urls = [format!("http://{}/x", listener.local_addr().unwrap())];
    let download = Download {
        urls: &urls,
        part: &folder.path().join("x.part"),
        limit: 10,
        patience: Duration::from_millis(50),
    };
    let mut attempts = Vec::new();
    assert!(download.run(|_| Ok(()), &mut attempts, &mut ()).unwrap().is_none());
    assert!(attempts[0].contains("timeout"), "{attempts:?}");
}

#[test]
fn offline_uses_no_network() {
    let server = Server::start(answers(Answer::Good(images())));
    let (_folder, mut store) = store();
    store.offline = true;
    let error = store.fetch_missing(&known(false), std::slice::from_ref(&server.base), &mut ()).unwrap_err();
    let Error::Missing { attempts, .. } = error else { panic!() };
    assert!(attempts[0].contains("offline"));
    assert!(server.requests().is_empty());
}

#[test]
fn an_interrupted_download_keeps_its_part() {
    struct Stop(u64);
    impl Progress for Stop {
        fn start(&mut self, _: &str, _: Option<u64>, _: crate::progress::Unit) {}
        fn advance(&mut self, n: u64) {
            self.0 += n;
        }
        fn finish(&mut self) {}
        fn interrupted(&self) -> bool {
            self.0 > 0
        }
    }
    let server = Server::start(answers(Answer::Drops(images(), 20)));
    let (_folder, store) = store();
    let error =
        store.fetch_missing(&known(false), std::slice::from_ref(&server.base), &mut Stop(0)).unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    assert_eq!(names(&store.folder(&known(false))), [format!("{}.gz.part", NAMES[0])]);
    fetch(&store, &known(false), &[&server]).1.unwrap();
}

#[test]
fn a_damaged_local_file_is_an_error_and_stays() {
    let server = Server::start(answers(Answer::Good(images())));
    for published in [false, true] {
        let (_folder, store) = store();
        let known = known(published);
        fetch(&store, &known, &[&server]).1.unwrap();
        let path = store.folder(&known).join(format!("{}.gz", NAMES[0]));
        let good = std::fs::read(&path).unwrap();
        let mut other = tiny()[0].clone();
        other[20] ^= 1;
        let before = server.requests().len();
        for bad in [good[..good.len() / 2].to_vec(), gzip(&other), b"<html>".to_vec(), vec![]] {
            std::fs::write(&path, &bad).unwrap();
            let error = fetch(&store, &known, &[&server]).1.unwrap_err();
            assert!(matches!(error, Error::Data { .. }), "{error}");
            assert!(matches!(store.read(&known), Err(Error::Data { .. })));
            assert_eq!(std::fs::read(&path).unwrap(), bad);
        }
        assert_eq!(server.requests().len(), before);
    }
}

#[test]
fn without_a_published_sum_of_the_content_it_is_recorded() {
    let server = Server::start(answers(Answer::Good(images())));
    let (_folder, store) = store();
    let known = known(true);
    let records = fetch(&store, &known, &[&server]).1.unwrap();
    assert!(records.iter().all(|record| record.checked == Checked::Published));
    let folder = store.folder(&known);
    let record = std::fs::read_to_string(folder.join(format!("{}.sha256", NAMES[0]))).unwrap();
    assert_eq!(record, format!("{}  {}\n", hex_sum(&tiny()[0]), NAMES[0]));
    // Decompressed by the user: the record still holds.
    std::fs::remove_file(folder.join(format!("{}.gz", NAMES[0]))).unwrap();
    std::fs::write(folder.join(NAMES[0]), &tiny()[0]).unwrap();
    assert_eq!(store.verify_known(&known).unwrap()[0].checked, Checked::Recorded);
    let mut other = tiny()[0].clone();
    other[20] ^= 1;
    std::fs::write(folder.join(NAMES[0]), &other).unwrap();
    assert!(matches!(store.verify_known(&known), Err(Error::Data { .. })));
    // Without the record only the structure can be checked, and it says so.
    std::fs::remove_file(folder.join(format!("{}.sha256", NAMES[0]))).unwrap();
    assert_eq!(store.verify_known(&known).unwrap()[0].checked, Checked::Structure);
}

#[test]
fn files_are_added_after_they_are_checked() {
    let from = tempfile::tempdir().unwrap();
    for (name, content) in NAMES.iter().zip(tiny()) {
        std::fs::write(from.path().join(name), content).unwrap();
    }
    let (_folder, store) = store();
    let known = known(false);
    // A damaged compressed file from before is replaced by the good plain one.
    std::fs::create_dir_all(store.folder(&known)).unwrap();
    std::fs::write(store.folder(&known).join(format!("{}.gz", NAMES[0])), b"damaged").unwrap();
    assert_eq!(store.add_known(&known, from.path()).unwrap().len(), 4);
    assert_eq!(store.read(&known).unwrap().train.len(), 5);
    assert_eq!(names(&store.folder(&known)).len(), 4);

    std::fs::write(from.path().join(NAMES[3]), b"nonsense").unwrap();
    let (_folder, store) = self::store();
    assert!(matches!(store.add_known(&known, from.path()), Err(Error::Data { .. })));
    assert!(names(&store.folder(&known)).is_empty());
}

fn zipped(files: &[Vec<u8>; 4]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in NAMES.iter().zip(files) {
        writer.start_file(format!("gzip/{name}.gz"), zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(&gzip(content)).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn an_archive_is_fetched_once_and_only_what_is_needed_is_taken_out() {
    let archive = zipped(&tiny());
    let mut known = known(true);
    known.archive = Some(Archive {
        name: "all.zip".into(),
        sha256: hex_sum(&archive),
        bytes: archive.len() as u64,
        prefix: "gzip/".into(),
    });
    known.transposed = true;
    let server = Server::start(vec![("all.zip".into(), Answer::Drops(archive.clone(), 300))]);
    let (_folder, store) = store();
    fetch(&store, &known, &[&server]).1.unwrap();
    assert_eq!(server.requests(), ["all.zip None", "all.zip Some(300)"]);
    let data = store.read(&known).unwrap();
    assert_eq!(data.shape, [1, 3, 2]);
    let Samples::U8(pixels) = &data.train.samples else { panic!() };
    assert_eq!(pixels[..6], [0, 18, 6, 24, 12, 30]);
    // The archive stays for the other splits.
    std::fs::remove_file(store.folder(&known).join(format!("{}.gz", NAMES[2]))).unwrap();
    fetch(&store, &known, &[&server]).1.unwrap();
    assert_eq!(server.requests().len(), 2);
    // From a file on disk as well.
    let zip = store.folder(&known).join("all.zip");
    let (_other_folder, other) = self::store();
    assert_eq!(other.add_known(&known, &zip).unwrap().len(), 4);
    std::fs::write(&zip, &archive[..archive.len() - 1]).unwrap();
    let (_third_folder, third) = self::store();
    assert!(matches!(third.add_known(&known, &zip), Err(Error::Data { .. })));
}

#[test]
fn concurrent_fetches_end_with_whole_files() {
    let server = Server::start(answers(Answer::Drops(images(), 20)));
    let (_folder, store) = store();
    let known = known(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| fetch(&store, &known, &[&server]).1)).collect();
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap().unwrap().len(), 4));
    });
    assert_eq!(names(&store.folder(&known)), four());
    assert_eq!(server.requests().len(), 5, "each file is fetched once");
}

#[test]
fn real_data_where_there_is_some() {
    let Some(dir) = std::env::var_os("RANSNN_DATA") else {
        let _ =
            writeln!(std::io::stderr(), "skipped: RANSNN_DATA names no folder with MNIST and Fashion-MNIST");
        return;
    };
    let store = Store { dir: dir.into(), offline: true };
    for name in ["mnist", "fashion-mnist"] {
        let data = store.open(name, &mut ()).unwrap();
        assert_eq!((data.train.len(), data.test.len(), data.classes), (60_000, 10_000, 10));
        assert_eq!(data.shape, [1, 28, 28]);
        assert!(data.origin.files.iter().all(|file| file.checked == Checked::Content));
        assert!((0..10).all(|class| data.test.labels.iter().filter(|&&label| label == class).count() > 800));
        assert!(store.verify(name).is_ok());
    }
    let present = store.list().into_iter().filter(|entry| entry.present).map(|entry| entry.name);
    assert!(present.take(3).eq(["strokes", "mnist", "fashion-mnist"]));
}
