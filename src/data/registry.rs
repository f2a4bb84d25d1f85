//! The public data sets that are known by name: where they are, and what their files must be.
//!
//! For MNIST and Fashion-MNIST the SHA-256 of the **decompressed** content is known. For KMNIST and EMNIST only sums
//! of the compressed files as published are: those are checked where the file is still in that form, and the sum of
//! the content is written down beside it (`NAME.sha256`) for later. Sources, licences and sums are listed in
//! `datasets/README.md` as well.

use super::idx;
use crate::error::{Error, Result};

/// A data set that can be fetched.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name on the command line.
    pub name: String,
    /// One line about it.
    pub title: String,
    /// Its licence as stated by its makers or, where they state none, as it is usually listed.
    pub licence: &'static str,
    /// Its home page.
    pub home: &'static str,
    /// Number of classes.
    pub classes: usize,
    /// Folder below the data folder. The six EMNIST splits share one.
    pub folder: &'static str,
    /// Training images and labels, test images and labels.
    pub files: [KnownFile; 4],
    /// Base addresses, tried in this order; the file's name with `.gz`, or that of the archive, is appended.
    pub mirrors: &'static [&'static str],
    /// The one archive that has all the files, where there is one.
    pub archive: Option<Archive>,
    /// The label of class 0.
    pub first_label: u8,
    /// Whether the images are stored with rows and columns swapped.
    pub transposed: bool,
}

/// One file of a [`Known`] data set.
#[derive(Clone, Debug)]
pub struct KnownFile {
    /// Name without `.gz`.
    pub name: String,
    /// Number of dimensions: 3 images, 1 labels.
    pub dimensions: usize,
    /// What its sum must be.
    pub sum: Sum,
}

/// A known SHA-256, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sum {
    /// Of the decompressed content.
    Content(String),
    /// Of the compressed file as published. Says nothing about a file that was decompressed or compressed again.
    Published(String),
}

/// A zip archive that holds the files of a data set.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Its file name.
    pub name: String,
    /// SHA-256 of the archive.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// What stands before a file's name (with `.gz`) inside of it.
    pub prefix: String,
}

fn files(names: [String; 4], sums: [Sum; 4]) -> [KnownFile; 4] {
    let mut dimensions = [3, 1, 3, 1].into_iter();
    let mut sums = sums.into_iter();
    names.map(|name| KnownFile {
        name,
        dimensions: dimensions.next().unwrap_or(1),
        sum: sums.next().unwrap_or_else(|| Sum::Content(String::new())),
    })
}

fn content(sums: [&str; 4]) -> [Sum; 4] {
    sums.map(|sum| Sum::Content(sum.into()))
}

fn published(sums: [&str; 4]) -> [Sum; 4] {
    sums.map(|sum| Sum::Published(sum.into()))
}

/// All data sets that can be fetched, in the order in which they are listed.
pub fn all() -> Vec<Known> {
    let usual = || idx::NAMES.map(String::from);
    let mut all = vec![
        Known {
            name: "mnist".into(),
            title: "handwritten digits, 28×28, 60,000 + 10,000".into(),
            licence: "not stated by its makers; usually listed as CC BY-SA 3.0",
            home: "http://yann.lecun.com/exdb/mnist/",
            classes: 10,
            folder: "mnist",
            files: files(
                usual(),
                content([
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ]),
            ),
            mirrors: &[
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
            ],
            archive: None,
            first_label: 0,
            transposed: false,
        },
        Known {
            name: "fashion-mnist".into(),
            title: "pictures of clothes, 28×28, 60,000 + 10,000".into(),
            licence: "MIT",
            home: "https://github.com/zalandoresearch/fashion-mnist",
            classes: 10,
            folder: "fashion-mnist",
            files: files(
                usual(),
                content([
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ]),
            ),
            mirrors: &[
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            ],
            archive: None,
            first_label: 0,
            transposed: false,
        },
        Known {
            name: "kmnist".into(),
            title: "cursive Japanese characters (Kuzushiji), 28×28, 60,000 + 10,000".into(),
            licence: "CC BY-SA 4.0",
            home: "https://github.com/rois-codh/kmnist",
            classes: 10,
            folder: "kmnist",
            files: files(
                usual(),
                published([
                    "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                    "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                    "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                    "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
                ]),
            ),
            mirrors: &["http://codh.rois.ac.jp/kmnist/dataset/kmnist/"],
            archive: None,
            first_label: 0,
            transposed: false,
        },
    ];
    all.extend(EMNIST.iter().map(|&(split, title, classes, first_label, sums)| {
        let name = |part, kind| format!("emnist-{split}-{part}-{kind}-ubyte");
        Known {
            name: format!("emnist-{split}"),
            title: format!("EMNIST {title}, 28×28"),
            licence: "public domain (NIST Special Database 19)",
            home: "https://www.nist.gov/itl/products-and-services/emnist-dataset",
            classes,
            folder: "emnist",
            files: files(
                [
                    name("train", "images-idx3"),
                    name("train", "labels-idx1"),
                    name("test", "images-idx3"),
                    name("test", "labels-idx1"),
                ],
                published(sums),
            ),
            mirrors: &["https://biometrics.nist.gov/cs_links/EMNIST/"],
            archive: Some(Archive {
                name: "gzip.zip".into(),
                sha256: "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e".into(),
                bytes: 561_753_746,
                prefix: "gzip/".into(),
            }),
            first_label,
            transposed: true,
        }
    }));
    all
}

/// (split, what it is, classes, label of class 0, published sums)
type EmnistRow = (&'static str, &'static str, usize, u8, [&'static str; 4]);

const EMNIST: [EmnistRow; 6] = [
    (
        "balanced",
        "digits and letters, as many of each",
        47,
        0,
        [
            "74295e75e4e9fa2c102147460ee7eb763653d5132d883a84fb88932bfb8d2db4",
            "b46d41e5156a0a8aaaa4d18979fdd1588850fa8571018acffd5d93b325a7d6ed",
            "117fc12b015e37ea98bfb2cbba3f77c3782c056cdbd219b87abfc8661d7135db",
            "a67cac948379b67270b9a4d0a01c8ec661598accf2f2b1964340b7c83cb175cd",
        ],
    ),
    (
        "byclass",
        "digits, upper and lower case letters",
        62,
        0,
        [
            "9e21987f03a6eb8b870187e785883ddad96947299587908f1a7ec2ca0f4be5f0",
            "f7ef403d48dc18a89dae0d83d11ee69cecb6e1c12c3a961d03712e495c02a8fa",
            "5ec835bd5d5b1a66378a132e727fef20fe994b3cc666899befcca5ac766f50cd",
            "501e305eeeacb093b162592d80e8a2632040872360fa6d85cfcb2200d91ca92a",
        ],
    ),
    (
        "bymerge",
        "digits and letters, look-alike cases merged",
        47,
        0,
        [
            "39bf8c68037dad40db35348895f7e4e056e8c0a005ab78869c9fbc2c96e947be",
            "2c47293b9e62d6abf6ad05fbf67e40baa32adfd380b8d7b44dcc35534b64e1f1",
            "5e5815ec1b522089134435f7c55e75a00960b58414793593ffff23efc0821683",
            "8bda1516255683ba9071e141947ca0c91a911176065cdd6259b0b4d8dc5b5f35",
        ],
    ),
    (
        "digits",
        "digits",
        10,
        0,
        [
            "f7c95004d14d81af89522e67d8f0c781dfb3bd544181c81bfe1eb6b41c35b726",
            "6638a6ff5fe2eefd9cca2471995b46c82986b8e4b2a70d2f5ce8e05d7edb319e",
            "20ebe43509264f7639d37c835a3f0b009e90b29e00a099a03101abe1644a3f63",
            "bad1834c45d5988e270b99d43b13edc3fd898f658ffbc2caf2846ef27f7b05b0",
        ],
    ),
    (
        "letters",
        "letters, both cases as one class",
        26,
        // Letters are numbered from 1 in the files.
        1,
        [
            "6288f418a917e007bf5fddb823a2dc7a5c6a35031401b93292a539cb12bd881f",
            "9759af91ea6bccdf07a6040fd085861f2ec88e37f7c3f5760f6feb57106fbe5c",
            "50f0e93d75b99b463e9760b8345866f22587fa2c2fba472730a5ba09c693412d",
            "924955c31fe7fd809b7303b5c0141282955f4b8390c74cdfd5d80435e0f4b4cb",
        ],
    ),
    (
        "mnist",
        "digits, the size of MNIST",
        10,
        0,
        [
            "5f9942f441031c0f1f2e4d162059fd6e19ea808b34c328b6d16cab0ed24c78f2",
            "00c6d3c2342fdffb1711e0b5656cac4ce5862d2826399d383a9bac07d612e9f8",
            "b25640fa9e356c618132f5df347c95ef5bae6d9c2596be1de40f7e0ae1c3eac6",
            "bcc5385d38f083dba046f5f756e99b32f5ea7fad122c6243c71c2239873065ca",
        ],
    ),
];

/// The data set of that name.
///
/// # Errors
/// [`Error::Value`] lists the names, with the nearest first.
pub fn find(name: &str) -> Result<Known> {
    let mut all = all();
    if let Some(at) = all.iter().position(|known| known.name == name) {
        return Ok(all.swap_remove(at));
    }
    let names: Vec<String> =
        ["strokes".into()].into_iter().chain(all.into_iter().map(|known| known.name)).collect();
    let nearest = names
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, candidate)| format!(" (did you mean `{candidate}`?)"))
        .unwrap_or_default();
    Err(Error::value("data set", format!("`{name}`"), format!("one of {}{nearest}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_sums_and_names_are_unique() {
        let all = all();
        assert_eq!(all.len(), 9);
        let mut sums: Vec<_> = all
            .iter()
            .flat_map(|known| &known.files)
            .map(|file| match &file.sum {
                Sum::Content(sum) | Sum::Published(sum) => sum.clone(),
            })
            .collect();
        assert!(
            sums.iter().all(|sum| sum.len() == 64 && sum.bytes().all(|b| b"0123456789abcdef".contains(&b)))
        );
        sums.sort();
        sums.dedup();
        assert_eq!(sums.len(), 36);
        assert!(all.iter().all(|known| known.mirrors.iter().all(|base| base.ends_with('/'))));
    }

    #[test]
    fn a_wrong_name_gets_the_nearest() {
        let error = find("fashion_mnist").unwrap_err().to_string();
        assert!(error.contains("did you mean `fashion-mnist`?"), "{error}");
        let error = find("imagenet").unwrap_err().to_string();
        assert!(error.contains("kmnist") && !error.contains("did you mean"), "{error}");
    }
}
