//! The core looks at nothing outside itself: no shell module, no I/O, no clock, no random hash seeds, no async runtime.
//!
//! Reads the sources as text, without comments, string literals and `#[cfg(test)]` items, and names each line that looks outward.

#![allow(clippy::unwrap_used, reason = "a test's failure is its panic, in helpers too")]

use std::path::{Path, PathBuf};

/// The core, by its modules in `src/`. `shop` and `quality` may be single files or folders, as any other.
const CORE: [&str; 10] =
    ["event", "features", "model", "decision", "learn", "engine", "draw", "shop", "quality", "suggest"];

/// Core modules that may not be there yet; every other one must be, so that a renamed folder does not pass unseen.
const NOT_YET: [&str; 2] = ["shop", "quality"];

const SHELL: [&str; 8] = ["config", "kafka", "store", "api", "page", "cli", "service", "telemetry"];

/// Crates of the shell, and parts of `std` that do I/O or keep time; each as the path it is named by. (`std::io::Write` into bytes is fine.)
const OUTWARD: [&str; 22] = [
    "tokio",
    "rdkafka",
    "axum",
    "hyper",
    "rusqlite",
    "ureq",
    "clap",
    "indicatif",
    "rand",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::hash::RandomState",
];

/// Names that are outward wherever they come from.
const NAMES: [&str; 6] =
    ["Instant::now", "SystemTime::now", "Timestamp::now", "thread_rng", "RandomState", "getrandom"];

#[test]
fn the_core_does_not_look_outward() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for module in CORE {
        let files = sources(&src, module);
        assert!(!files.is_empty() || NOT_YET.contains(&module), "src/{module} is gone: is it still the core?");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let name = file.strip_prefix(&src).unwrap().display().to_string();
            found.extend(violations(&text).into_iter().map(|(line, what)| format!("src/{name}:{line} names {what}")));
        }
    }
    assert!(found.is_empty(), "the core looks outward:\n{}", found.join("\n"));
}

/// The `.rs` files of a module: `module.rs` and all below `module/`.
fn sources(src: &Path, module: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![src.join(module)];
    files.extend(Some(src.join(format!("{module}.rs"))).filter(|file| file.is_file()));
    while let Some(folder) = folders.pop().filter(|folder| folder.is_dir()) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.insert(0, path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                // A file of tests that its module includes under `#[cfg(test)]`.
                if path.file_name().is_none_or(|name| name != "tests.rs") {
                    files.push(path);
                }
            }
        }
    }
    files.sort();
    files
}

/// What a source names that the core must not: line (from 1) and path.
fn violations(source: &str) -> Vec<(usize, String)> {
    let tokens = without_tests(tokens(source));
    let mut found: Vec<(usize, String)> =
        paths(&tokens).into_iter().filter_map(|(line, path)| outward(&path).then_some((line, path))).collect();
    found.sort();
    found.dedup();
    found
}

fn outward(path: &str) -> bool {
    let begins = |with: &str| path == with || path.strip_prefix(with).is_some_and(|rest| rest.starts_with("::"));
    let shell = SHELL.iter().any(|module| begins(&format!("crate::{module}")) || begins(&format!("larum::{module}")));
    let whole = |name: &&str| format!("::{path}::").contains(&format!("::{name}::"));
    shell || OUTWARD.iter().any(|path| begins(path)) || NAMES.iter().any(whole)
}

/// A word or a character of the source, with its line.
type Token = (usize, String);

/// Words (`::` is one) and single characters; comments, strings and character literals are left out.
fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let (mut i, mut line, mut out) = (0, 1, Vec::new());
    while i < text.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => i += text[i..].iter().take_while(|c| **c != '\n').count(),
            '/' if at(i + 1) == '*' => i = comment_end(&text, i),
            '"' => i = string_end(&text, i),
            'r' if raw_hashes(&text, i).is_some() => i = raw_end(&text, i),
            '\'' if at(i + 1) == '\\' => i += 3 + text[i + 3..].iter().take_while(|c| **c != '\'').count(),
            '\'' if at(i + 2) == '\'' => i += 2,
            ':' if at(i + 1) == ':' => {
                out.push((line, "::".to_owned()));
                i += 1;
            }
            c if c == '_' || c.is_alphanumeric() => {
                let word: String = text[i..].iter().take_while(|c| **c == '_' || c.is_alphanumeric()).collect();
                i += word.chars().count() - 1;
                out.push((line, word));
            }
            c if c.is_whitespace() => {}
            c => out.push((line, c.to_string())),
        }
        i = (i + 1).min(text.len());
        line += text[start..i].iter().filter(|c| **c == '\n').count();
    }
    out
}

/// The last character of a block comment, which may hold others.
fn comment_end(text: &[char], start: usize) -> usize {
    let (mut depth, mut i) = (0, start);
    while i < text.len() {
        match (text[i], text.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 1),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        i += 1;
    }
    i
}

/// The closing quote of a string.
fn string_end(text: &[char], start: usize) -> usize {
    let mut i = start + 1;
    while i < text.len() && text[i] != '"' {
        i += if text[i] == '\\' { 2 } else { 1 };
    }
    i
}

/// How many `#` a raw string has that begins here; none when it is no raw string.
fn raw_hashes(text: &[char], start: usize) -> Option<usize> {
    let word_before =
        start > 0 && (text[start - 1] == '_' || (text[start - 1].is_alphanumeric() && text[start - 1] != 'b'));
    let hashes = text[start + 1..].iter().take_while(|c| **c == '#').count();
    (!word_before && text.get(start + 1 + hashes) == Some(&'"')).then_some(hashes)
}

/// The last character of a raw string.
fn raw_end(text: &[char], start: usize) -> usize {
    let hashes = raw_hashes(text, start).unwrap_or(0);
    let mut i = start + 2 + hashes;
    while i < text.len()
        && !(text[i] == '"' && text[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes)
    {
        i += 1;
    }
    i + hashes
}

/// Leaves out every item under `#[cfg(test)]`: up to its closing brace, or its semicolon.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut out = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let here = tokens[i..].iter().map(|token| token.1.as_str());
        if here.clone().take(ATTRIBUTE.len()).eq(ATTRIBUTE) {
            let mut depth = 0;
            i += ATTRIBUTE.len();
            while i < tokens.len() {
                let token = tokens[i].1.as_str();
                depth += i32::from(token == "{") - i32::from(token == "}");
                i += 1;
                if depth == 0 && (token == "}" || token == ";") {
                    break;
                }
            }
        } else {
            out.push(tokens[i].clone());
            i += 1;
        }
    }
    out
}

/// Every path the source names, with the trees of its `use` lines written out.
fn paths(tokens: &[Token]) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if is_word(&tokens[i].1) {
            i = path(tokens, i, "", &mut out);
        } else {
            i += 1;
        }
    }
    out
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c == '_' || c.is_alphanumeric())
}

/// Reads one path, or one branch of a tree behind `prefix`; returns the place after it.
fn path(tokens: &[Token], start: usize, prefix: &str, out: &mut Vec<(usize, String)>) -> usize {
    let token = |i: usize| tokens.get(i).map_or("", |token| token.1.as_str());
    let mut path = format!("{prefix}{}", token(start));
    let mut i = start + 1;
    while token(i) == "::" {
        if is_word(token(i + 1)) {
            path = format!("{path}::{}", token(i + 1));
            i += 2;
        } else if token(i + 1) == "{" {
            i += 2;
            while i < tokens.len() && token(i) != "}" {
                i = if is_word(token(i)) { self::path(tokens, i, &format!("{path}::"), out) } else { i + 1 };
            }
            return i + 1;
        } else {
            i += 1; // a turbofish, or a glob
        }
    }
    out.push((tokens[start].0, path));
    i
}

#[test]
fn a_planted_violation_is_caught() {
    let named = |source: &str| violations(source).into_iter().map(|found| found.1).collect::<Vec<_>>();
    assert_eq!(named("use crate::store::Writer;"), ["crate::store::Writer"]);
    assert_eq!(
        named("use crate::{event::Event, config::{self, Config}};"),
        ["crate::config::Config", "crate::config::self"]
    );
    assert_eq!(named("fn f() { tokio::spawn(g()); }"), ["tokio::spawn"]);
    assert_eq!(named("use std::{fmt, fs::File};"), ["std::fs::File"]);
    assert_eq!(named("use std::collections::{BTreeMap, HashMap as Map};"), ["std::collections::HashMap"]);
    assert_eq!(named("use std::time; let t = time::Instant::now();"), ["time::Instant::now"]);
    assert_eq!(named("let mut rng = rand::thread_rng();"), ["rand::thread_rng"]);
    assert_eq!(named("HashMap::<u8, u8, std::hash::RandomState>::new()"), ["std::hash::RandomState"]);
    assert_eq!(violations("// one\n/* two\n*/\nuse rdkafka::message::Message;")[0].0, 4, "the line");
    assert_eq!(
        named("#[cfg(test)]\nmod tests { use std::fs; }\nuse axum::Router;"),
        ["axum::Router"],
        "after a test module"
    );
    assert_eq!(named(r##"let a = "\""; let b = r#"""#; let c = '"'; use std::net::IpAddr;"##), ["std::net::IpAddr"]);
}

#[test]
fn what_is_no_violation_passes() {
    for source in [
        "use crate::event::Event; use std::collections::{BTreeMap, BTreeSet}; use std::fmt;",
        "// tokio::spawn\n/* std::fs /* nested */ std::net */ /// crate::store\n",
        "let text = \"crate::store::Writer\"; let raw = r#\"std::fs\"#; let lifetime: &'static str = \"\";",
        "#[cfg(test)]\nmod tests {\n fn f() { if true { std::fs::read(\"\"); } }\n}",
        "#[cfg(test)]\nuse std::time::Instant;",
        "use std::time::Duration; let store = 1; config.api();",
        "fn store(random: u64) -> Option<HashMap<u64, u64>> { operand }",
        "use std::io::Write;",
        "use hashlink::LinkedHashMap; use crate::storehouse::x;",
    ] {
        assert_eq!(violations(source), [], "{source}");
    }
}
