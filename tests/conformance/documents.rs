//! What the documents show of configurations is what the daemon reads: every block of TOML, completed where it is a part of one.

use std::collections::BTreeSet;
use std::path::Path;

use smart_monitor::config::Config;

use super::root;

/// A block of a page, and the line that it begins at.
struct Block {
    line: usize,
    text: String,
}

/// Fenced blocks of TOML, and those that are indented and begin with a table.
fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        let mut text = String::new();
        if line.starts_with("```") {
            // A fence of another language is passed over as a whole.
            for (inside, _) in lines.by_ref().take_while(|(line, _)| *line != "```") {
                text = text + inside + "\n";
            }
            if line != "```toml" {
                continue;
            }
        } else if line.starts_with("    [") {
            text = line.trim().to_owned() + "\n";
            let more = |(line, _): &(&str, usize)| line.starts_with("    ") || line.is_empty();
            while let Some((inside, _)) = lines.next_if(more) {
                text = text + inside.trim() + "\n";
            }
        } else {
            continue;
        }
        found.push(Block { line: number, text });
    }
    found
}

/// What is left of comments is a configuration, or these.
fn whole(text: &str) -> Vec<String> {
    let service = |name: &str| {
        format!("[[service]]\nname = \"{name}\"\nkind = \"command\"\ncommand = [\"x\"]\n")
    };
    let rule = "[[remedy]]\ndetector = \"service_down\"\non = [\"example\"]\naction = \"restart_service\"\n";
    let mut conditions = text.lines().filter(|line| line.starts_with("when = "));
    let tables = text.lines().any(|line| line.starts_with('['));
    if !tables && conditions.next().is_some() {
        let conditions = text.lines().filter(|line| line.starts_with("when = "));
        return conditions
            .map(|when| format!("{}{rule}{when}\n", service("example")))
            .collect();
    }
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
    let mut text = text.to_owned();
    if first.starts_with("[service.") || first.starts_with("[[service.") || !first.starts_with('[')
    {
        text = service("example") + &text;
    }
    // Names that it does not declare are services, or what else the rule is for.
    let mut names = BTreeSet::new();
    for key in [
        "on = ",
        "members = ",
        "depends_on = ",
        "prefer = ",
        "avoid = ",
    ] {
        for line in text.lines().filter(|line| line.starts_with(key)) {
            names.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    for name in names {
        if name == "*" || name.contains(':') || text.contains(&format!("name = \"{name}\"")) {
            continue;
        }
        let more = if text.contains("clean_folder") {
            format!("[[folder]]\nname = \"{name}\"\npath = \"/srv/logs\"\nmatch = [\"*.1\"]\n")
        } else {
            service(&name)
        };
        text += &more;
    }
    vec![text]
}

#[test]
fn every_configuration_that_a_document_shows_is_good() {
    let mut pages = vec![root().join("README.md")];
    for entry in std::fs::read_dir(root().join("docs")).expect("it is there") {
        pages.push(entry.expect("it reads").path());
    }
    pages.retain(|page| page.extension().is_some_and(|it| it == "md"));
    let (mut checked, mut wrong) = (0, Vec::new());
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("it reads");
        for block in blocks(&text) {
            // Policy tests are no configuration: one of their own runs them.
            if block.text.starts_with("config = ") {
                continue;
            }
            for text in whole(&block.text) {
                checked += 1;
                if let Err(error) = Config::parse(&text, Path::new("example.toml")) {
                    let at = format!("{}:{}", page.display(), block.line);
                    wrong.push(format!("{at}\n{}\n{text}", error.render()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 40, "only {checked} blocks were found");
}

#[test]
fn a_mistake_in_a_document_would_be_found() {
    let page = "text\n```toml\n[service.check]\nhttq = \"http://127.0.0.1/\"\n```\n";
    let [block] = <[Block; 1]>::try_from(blocks(page))
        .ok()
        .expect("one block");
    assert_eq!(block.line, 2);
    assert!(Config::parse(&whole(&block.text)[0], Path::new("example.toml")).is_err());
    assert_eq!(
        blocks("a\n\n    [[service]]\n    name = \"x\"\n\nb\n").len(),
        1
    );
    assert!(blocks("```json\n[\n```\n").is_empty());
}
