//! Data: digits that need no file, a table of your own, and what a wrong cell says.
#![allow(clippy::print_stdout)]

use ransnn::data::{Holdout, OwnData, Samples, open_path, strokes};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One drawn digit, as text.
    let digits = strokes(7, 1000, 200);
    println!("{}: {} + {} samples of {:?}", digits.name, digits.train.len(), digits.test.len(), digits.shape);
    if let Samples::U8(pixels) = &digits.train.samples {
        println!("a {}:", digits.train.labels[0]);
        for row in pixels[..784].chunks(28) {
            println!(
                "{}",
                row.iter().map(|&ink| [' ', '.', 'o', '#'][usize::from(ink / 64)]).collect::<String>()
            );
        }
    }

    // Hyper-parameters are chosen on a part of the training split.
    let task = digits.validation(Holdout::Fraction(0.2))?;
    println!("for tuning: {} + {}", task.train.len(), task.test.len());

    // A table: numbers, and a label in the last column.
    let folder = tempfile::tempdir()?;
    let table = folder.path().join("flowers.csv");
    std::fs::write(&table, "length,width,kind\n1.4,0.2,iris\n4.7,1.4,rose\n5.1,1.9,rose\n1.3,0.3,iris\n")?;
    let flowers = open_path(&table, &OwnData { test_fraction: 0.5, ..OwnData::default() })?;
    println!("{}: {} classes, training {:?}", flowers.name, flowers.classes, flowers.train);

    std::fs::write(&table, "length,width,kind\n1.4,0.2,iris\n4.7,NaN,rose\n")?;
    if let Err(error) = open_path(&table, &OwnData::default()) {
        println!("{}", error.to_string().rsplit('/').next().unwrap_or_default());
    }
    Ok(())
}
