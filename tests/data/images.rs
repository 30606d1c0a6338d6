//! Images: folders, archives of them, MNIST and CIFAR-10.

use std::fs;

use image::{GrayImage, Luma, Rgb, RgbImage};

use crate::*;

#[test]
fn images_are_scaled_and_cut_to_the_input() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["b", "a/deeper"] {
        fs::create_dir_all(folder.path().join(class)).unwrap();
    }
    // Three columns of one colour each: a square cut out of the middle is green.
    let colours = [Rgb([255, 0, 0]), Rgb([0, 255, 0]), Rgb([0, 0, 255])];
    let wide = RgbImage::from_fn(24, 8, |x, _| colours[x as usize / 8]);
    wide.save(folder.path().join("b/wide.png")).unwrap();
    let same = RgbImage::from_fn(4, 4, |x, y| Rgb([x as u8, y as u8, 9]));
    same.save(folder.path().join("b/same.PNG")).unwrap();
    let grey = GrayImage::from_pixel(5, 9, Luma([102]));
    grey.save(folder.path().join("a/deeper/grey.jpg")).unwrap();
    fs::write(folder.path().join("a/notes.txt"), "no image").unwrap();

    let spec = format!("folder:{},mean=0,std=1", folder.path().display());
    let samples = all(&spec, &network("f32[N,3,4,4]"));
    assert_eq!(samples.stacked().unwrap().shape(), [3, 3, 4, 4]);
    // In order of path: a/deeper/grey.jpg, b/same.PNG, b/wide.png.
    assert_eq!(samples.labels.as_deref(), Some(&[0, 1, 1][..]));
    let images = samples.stacked().unwrap();
    let image = |i| images.index_axis(ndarray::Axis(0), i);
    assert!(image(0).iter().all(|x| (x - 0.4).abs() < 0.01));
    assert_eq!(image(1)[[0, 2, 3]], 3.0 / 255.0);
    assert_eq!(image(1)[[1, 2, 3]], 2.0 / 255.0);
    let green = [0.0f32, 1.0, 0.0].map(|x| vec![x; 16]).concat();
    assert_eq!(image(2).iter().copied().collect::<Vec<_>>(), green);

    // Scaled to 16 first, half of the height is seen.
    let samples = all(&format!("{spec},resize=8"), &network("f32[N,1,4,4]"));
    assert_eq!(samples.stacked().unwrap().shape(), [3, 1, 4, 4]);
    let grey = samples.stacked().unwrap()[[2, 0, 0, 0]];
    assert!((grey - 0.7152).abs() < 0.01, "the luma of green is {grey}");

    fs::copy(
        folder.path().join("b/wide.png"),
        folder.path().join("loose.png"),
    )
    .unwrap();
    assert_eq!(all(&spec, &network("f32[N,3,4,4]")).labels, None);
}

#[test]
fn a_damaged_image_is_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    RgbImage::new(4, 4)
        .save(folder.path().join("good.png"))
        .unwrap();
    fs::write(
        folder.path().join("bad.jpg"),
        b"\xff\xd8\xff\xe0 and no more",
    )
    .unwrap();
    let spec = format!("folder:{}", folder.path().display());
    let samples = all(&spec, &network("f32[N,3,4,4]"));
    assert_eq!(samples.len(), 1);
    let [why] = &samples.left_out[..] else {
        panic!("{:?}", samples.left_out);
    };
    assert!(
        why.contains("bad.jpg: ") && !why.ends_with(char::is_whitespace),
        "{why:?}"
    );
}

#[test]
fn an_open_size_is_that_of_the_images_or_what_resize_says() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.png"), png(6, [0; 3])).unwrap();
    fs::write(folder.path().join("b.png"), png(6, [0; 3])).unwrap();
    fs::write(folder.path().join("c.png"), b"damaged").unwrap();
    let spec = format!("folder:{}", folder.path().display());
    let shape = |spec: &str, input: &str| {
        all(spec, &network(input))
            .stacked()
            .unwrap()
            .shape()
            .to_vec()
    };
    assert_eq!(shape(&spec, "f32[N,3,H,W]"), [2, 3, 6, 6]);
    assert_eq!(shape(&spec, "f32[N,C,H,W]"), [2, 3, 6, 6]);
    assert_eq!(shape(&spec, "f32[N,1,H,4]"), [2, 1, 6, 4]);
    fs::write(folder.path().join("d.png"), png(9, [0; 3])).unwrap();
    let spec = format!("{spec},resize=4");
    assert_eq!(shape(&spec, "f32[N,3,H,W]"), [3, 3, 4, 4]);
}

/// The name, the first channel's first row of each sample as pixels, and the labels.
fn seen(spec: &str, graph: &Graph) -> (String, Vec<Vec<u8>>, Option<Vec<i64>>) {
    let samples = all(&format!("{spec},mean=0,std=1"), graph);
    let images = samples.stacked().unwrap();
    let rows = images.outer_iter().map(|image| {
        let row = image.index_axis(ndarray::Axis(0), 0);
        let row = row.index_axis(ndarray::Axis(0), 0);
        row.iter().map(|x| (x * 255.0).round() as u8).collect()
    });
    (samples.name.clone(), rows.collect(), samples.labels)
}

#[test]
fn mnist_is_read_gzipped_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let spec = mnist(folder.path(), 2);
    let graph = network("f32[N,1,2,3]");
    let (name, rows, labels) = seen(&spec, &graph);
    assert_eq!(name, format!("{spec},mean=0,std=1,split=train"));
    assert_eq!(rows, [[0, 1, 2], [10, 11, 12]]);
    assert_eq!(labels, Some(vec![0, 1]));
    let (name, rows, labels) = seen(&format!("{spec},split=test"), &network("f32[N,1,H,W]"));
    assert_eq!(name, format!("{spec},split=test,mean=0,std=1"));
    assert_eq!(rows, [[255; 3]]);
    assert_eq!(labels, Some(vec![7]));
    // MNIST's own mean and deviation.
    let test = format!("{spec},split=test").parse::<DataSpec>().unwrap();
    let images = test
        .open(&graph)
        .unwrap()
        .read(&[0])
        .unwrap()
        .stacked()
        .unwrap();
    assert_eq!(images[[0, 0, 0, 0]], (1.0 - 0.1307) / 0.3081);
    // Other sizes, and as many channels as the network takes, where they are asked for.
    let larger = all(&format!("{spec},resize=4"), &network("f32[N,3,4,4]"));
    assert_eq!(larger.stacked().unwrap().shape(), [2, 3, 4, 4]);
}

#[test]
fn cifar10_is_read_from_all_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let spec = cifar10(folder.path());
    let graph = network("f32[N,3,32,32]");
    let samples = all(&format!("{spec},mean=0,std=1"), &graph);
    assert_eq!(
        samples.labels.as_deref(),
        Some(&[0, 9, 1, 8, 2, 7, 3, 6, 4, 5][..])
    );
    let pixel = |i, channel, row, column| {
        (samples.stacked().unwrap()[[i, channel, row, column]] * 255.0).round() as usize
    };
    for i in 0..10 {
        assert_eq!([0, 1, 2].map(|c| pixel(i, c, 3, 8)), [3, 8, i]);
    }
    let test = spec.parse::<DataSpec>().unwrap();
    let test = test.prefer(optc::data::Split::Test).open(&graph).unwrap();
    assert_eq!(test.name(), format!("{spec},split=test"));
    // ImageNet's mean and deviation, as for any photographs.
    let blue = test.read(&[0]).unwrap().stacked().unwrap()[[0, 2, 9, 9]];
    assert_eq!(blue, (100.0 / 255.0 - 0.406) / 0.225);
}

#[test]
fn parts_of_a_folder_are_told_apart_and_share_their_classes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, red: u8| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, png(2, [red, 0, 0])).unwrap();
    };
    write("pets/train/cat/a.png", 1);
    write("pets/train/dog/b.png", 2);
    write("pets/val/dog/c.png", 3);
    let spec = format!("folder:{}", folder.path().display());
    let graph = network("f32[N,3,2,2]");
    let options = "mean=0,std=1";
    assert_eq!(
        seen(&spec, &graph),
        (
            format!("{spec},{options},split=train"),
            vec![vec![1; 2], vec![2; 2]],
            Some(vec![0, 1])
        )
    );
    let test = format!("{spec},split=test");
    assert_eq!(
        seen(&test, &graph),
        (format!("{test},{options}"), vec![vec![3; 2]], Some(vec![1]))
    );
    // `test` goes before `val`, and the latter is then nobody's.
    write("pets/test/cat/d.png", 4);
    assert_eq!(seen(&test, &graph).1, [[4; 2]]);
    // With anything beside them they are no parts but classes.
    write("pets/extra/e.png", 5);
    let (name, rows, labels) = seen(&spec, &graph);
    assert_eq!(name, format!("{spec},{options}"));
    assert_eq!(rows, [[5; 2], [4; 2], [1; 2], [2; 2], [3; 2]]);
    assert_eq!(labels, Some(vec![0, 1, 2, 2, 3]));
}

#[test]
fn a_tar_archive_is_read_where_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    let archive = tar(&[
        ("./train/dog/2.png", png(2, [2, 0, 0])),
        ("./train/notes.txt", b"none".to_vec()),
        ("./test/cat/9.png", png(2, [9, 0, 0])),
        ("./train/cat/1.PNG", png(2, [1, 0, 0])),
        ("./train/dog/0.jpg", b"damaged".to_vec()),
    ]);
    fs::write(folder.path().join("pets.tar"), archive).unwrap();
    let spec = format!("folder:{}/pets.tar", folder.path().display());
    let graph = network("f32[N,3,2,2]");
    let (name, rows, labels) = seen(&spec, &graph);
    assert!(
        name.ends_with("pets.tar,mean=0,std=1,split=train"),
        "{name}"
    );
    assert_eq!(rows, [[1; 2], [2; 2]]);
    assert_eq!(labels, Some(vec![0, 1]));
    let [why] = &all(&spec, &graph).left_out[..] else {
        panic!("one is damaged");
    };
    assert!(why.starts_with("train/dog/0.jpg: "), "{why}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
