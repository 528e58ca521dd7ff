#!/usr/bin/env python3
"""Man pages and shell completions, made from what the programs say of themselves.

    reference.py man PROGRAM_DIRECTORY DOCS_DIRECTORY OUT_DIRECTORY     *.scd, for scdoc
    reference.py complete PROGRAM_DIRECTORY OUT_DIRECTORY               bash, zsh, fish

Commands and options are read from --help, which comes from the option tables of the code, and the keys of
peerhub.conf from "peerhub hub --print-config"; so none can be missing here. Prose comes from docs/.
"""
import os
import re
import subprocess
import sys

COMMANDS_MAX = 200


class Option:
    def __init__(self, name, argument, text):
        self.name, self.argument, self.text = name, argument, text

    def choices(self):
        words = (self.argument or "").split("|")
        return words if len(words) > 1 and all(re.fullmatch(r"[a-z0-9-]+", w) for w in words) else []


class Command:
    def __init__(self, words, line):
        self.words, self.line = words, line
        self.usage, self.text, self.options, self.commands, self.tail = "", [], [], [], []

    def name(self):
        return " ".join(self.words)


def said(program, arguments):
    done = subprocess.run([program] + arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, check=True)
    return done.stdout


def read_command(program, words, line, left):
    """The command with all those below it."""
    left[0] -= 1
    if left[0] < 0:
        sys.exit("reference.py: too many commands")
    command = Command(words, line)
    option, in_options = None, False
    for text in said(program, words[1:] + ["--help"]).splitlines():
        found = re.match(r"  --([a-z0-9-]+)(?: (\S+))?(?:\s{2,}(.*))?$", text)
        below = re.match(r"  ([a-z][a-z0-9-]*)\s{2,}(\S.*)$", text)
        if text.startswith("usage: "):
            command.usage = text[len("usage: "):]
        elif text == "options:":
            in_options = True
        elif found:
            option = Option(found[1], found[2], [found[3]] if found[3] else [])
            command.options.append(option)
        elif option is not None and text.startswith(" " * 10):
            option.text.append(text.strip())
        elif below and not in_options and " COMMAND" in command.usage:
            command.commands.append((below[1], below[2]))
        else:
            option = None
            (command.tail if in_options or command.commands else command.text).append(text)
    command.commands = [read_command(program, words + [name], rest, left) for name, rest in command.commands]
    return command


# ---- scdoc ---------------------------------------------------------------------------------------


def plain(text):
    """Text that means nothing to scdoc."""
    text = re.sub(r"([\\*_])", r"\\\1", text)
    return re.sub(r"^([#.\-\[\]|`\t])", r"\\\1", text)


def inline(text):
    """A line of Markdown: code and strong are bold, emphasis is underlined, links are their text."""
    out, rest = [], re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    for part in re.split(r"(`[^`]+`|\*\*[^*]+\*\*|(?<!\w)\*[^*\s][^*]*\*(?!\w))", rest):
        if part.startswith("`"):
            out.append("*" + plain_inside(part[1:-1]) + "*")
        elif part.startswith("**"):
            out.append("*" + plain_inside(part[2:-2]) + "*")
        elif len(part) > 2 and part[0] == "*" == part[-1]:
            out.append("_" + plain_inside(part[1:-1]) + "_")
        else:
            out.append(re.sub(r"([\\*_])", r"\\\1", part))
    return "".join(out)


def plain_inside(text):
    return re.sub(r"([\\*_])", r"\\\1", text)


def from_markdown(lines):
    """The body of a page. Lists keep one level; a table becomes terms with what they mean."""
    out, literal, in_table, in_item = [], False, False, False
    for line in lines:
        if line.startswith("```"):
            if not literal and out and out[-1] != "":
                out.append("")
            out.append("```")
            literal = not literal
            if not literal:
                out.append("")
            continue
        if literal:
            out.append(line)
            continue
        heading = re.match(r"(#+) (.*)", line)
        row = re.match(r"\|(.*)\|\s*$", line)
        item = re.match(r"\s*(?:[-*]|\d+\.) (.*)", line)
        if row:
            cells = [c.strip() for c in re.split(r"(?<!\\)\|", row[1])]
            if re.fullmatch(r"[\s:|-]+", row[1]):
                continue
            if not in_table:
                in_table = True  # the head of the table says no more than the heading above it
                continue
            out += ["", inline(cells[0].replace("\\|", "|")),
                    "\t" + inline("; ".join(c for c in cells[1:] if c).replace("\\|", "|")), ""]
            continue
        in_table = False
        if heading:
            out += ["", ("# " if len(heading[1]) < 3 else "## ") +
                    (heading[2].upper() if len(heading[1]) < 3 else heading[2].replace("`", "")), ""]
            in_item = False
        elif item:
            if not in_item and out and out[-1] != "":
                out.append("")
            out.append("- " + inline(item[1]))
            in_item = True
        elif line.strip() == "":
            if out and out[-1] != "":
                out.append("")
            in_item = False
        elif in_item:
            out.append("  " + inline(line.strip()))
        else:
            text = inline(line.strip())
            out.append("\\" + text if text[:1] in "#.-|]" else text)
    return out


def options_of(command):
    out = []
    for option in command.options:
        term = "*--" + option.name + "*"
        if option.argument:
            term += " " + plain_inside(option.argument)
        out += [term, "\t" + " ".join(plain_inside(t) for t in option.text), ""]
    return out


def paragraphs(lines):
    out = []
    for line in lines:
        line = line.strip()
        out.append(plain(line) if line else "")
    return out


def tidy(lines):
    out = []
    for line in lines:
        if line == "" and (not out or out[-1] == ""):
            continue
        out.append(line.rstrip())
    while out and out[-1] == "":
        out.pop()
    return out


def page(title, section, version, name_line, body):
    return "\n".join(tidy(['%s(%d) "" "peerhub %s"' % (title, section, version), "", "# NAME", "",
                           "%s - %s" % (title, plain_inside(name_line)), ""] + body)) + "\n"


def command_page(command, version, others):
    title = "-".join(command.words)
    body = ["# SYNOPSIS", ""]
    leaves = command.commands or [command]
    for leaf in leaves:
        body += ["*%s*%s++" % (leaf.name(), plain_inside(leaf.usage[len(leaf.name()):]))]
    body[-1] = body[-1][:-2]
    body += ["", "# DESCRIPTION", ""]
    if command.commands:
        body += paragraphs(command.text) + [""]
        for leaf in command.commands:
            body += ["## " + leaf.name(), ""] + paragraphs(leaf.text) + [""] + options_of(leaf)
    else:
        body += paragraphs(command.text) + ["", "# OPTIONS", ""] + options_of(command)
    tail = [t for t in command.tail + (command.commands[0].tail if command.commands else []) if "exit code" in t]
    if tail:
        body += ["# EXIT STATUS", "", plain(tail[0].split(": ", 1)[1]) + ".", ""]
    body += ["# SEE ALSO", "", ", ".join("*%s*(%d)" % o for o in others if o[0] != title)]
    line = command.line.rstrip(".")
    return page(title, 1, version, line[:1].lower() + line[1:], body)


def markdown_page(path, version, others):
    lines = open(path, encoding="utf-8").read().splitlines()
    title = re.match(r"# ([a-z-]+)(?:\(\d\))?(?:: (.*))?$", lines[0])
    name, line = title[1], title[2]
    body = lines[1:]
    if line is None:  # the page has a NAME of its own
        at = next(i for i, text in enumerate(body) if text.startswith(name + " - "))
        line = body[at].split(" - ", 1)[1]
        body = [t for i, t in enumerate(body) if i != at and t != "## NAME"]
    if not any(text.upper() == "## SYNOPSIS" for text in body[:4]):
        first = next((i for i, text in enumerate(body) if text.startswith("## ")), len(body))
        if any(text.strip() for text in body[:first]):
            body.insert(0, "## Description")
    text = from_markdown(body)
    if not any(t == "# SEE ALSO" for t in text):
        text += ["", "# SEE ALSO", "", ", ".join("*%s*(%d)" % o for o in others if o[0] != name)]
    return name, page(name, 1, version, line, text)


def config_page(program, version, others):
    body = ["# DESCRIPTION", "", "What *peerhub hub --config* _FILE_ reads: \\[section] lines, _key_ = _value_ lines,",
            "comments that begin with # or ;. An unknown section or key, a key given twice and a value out of its",
            "range are errors that name the line. *peerhub hub --check-config --config* _FILE_ says whether a file is",
            "good; *peerhub hub --print-config* prints all of this as a file with all defaults.", ""]
    meaning = []
    for line in said(program, ["hub", "--print-config"]).splitlines():
        key = re.match(r"(; )?([a-z0-9-]+) = ?(.*)$", line)
        if re.match(r"\[[a-z]+\]$", line):
            body += ["", "# SECTION " + line[1:-1].upper(), ""]
        elif line.startswith("# "):
            meaning.append(line[2:])
        elif key:
            default = "Not set by default." if key[1] else "Default: %s." % (key[3].strip() or "empty")
            body += ["*%s* =" % key[2], "\t" + plain_inside(" ".join(meaning)) + " " + plain_inside(default), ""]
            meaning = []
    body += ["", "# FILES", "", "_/etc/peerhub/peerhub.conf_", "\tread by the unit of the service", "", "# SEE ALSO", "",
             ", ".join("*%s*(%d)" % o for o in others if o[0] != "peerhub.conf")]
    return page("peerhub.conf", 5, version, "configuration of a hub", body)


def make_man(programs, docs, out):
    peerhub = os.path.join(programs, "peerhub")
    version = said(peerhub, ["--version"]).split()[1]
    root = read_command(peerhub, ["peerhub"], "", [COMMANDS_MAX])
    others = [("peerhub", 1)] + [("-".join(c.words), 1) for c in root.commands] + [
        ("peerhub-stress", 1), ("peerhub-bench", 1), ("peerhub-echo", 1), ("libpeerhub", 3), ("peerhub.conf", 5)]
    pages = {"peerhub.conf.5": config_page(peerhub, version, others)}
    for command in root.commands:
        pages["-".join(command.words) + ".1"] = command_page(command, version, others)
    for name in ("peerhub.1", "peerhub-stress", "peerhub-bench", "peerhub-echo"):
        name, text = markdown_page(os.path.join(docs, name + ".md"), version, others)
        pages[name + ".1"] = text
    for name, text in pages.items():
        with open(os.path.join(out, name + ".scd"), "w", encoding="utf-8") as file:
            file.write(text)
    print("\n".join(sorted(pages)))


# ---- completion ----------------------------------------------------------------------------------


def walk(command):
    yield command
    for below in command.commands:
        yield from walk(below)


def first_sentence(text):
    return re.sub(r"[\"'`$\\\[\]:]", "", text)


def make_bash(tree):
    out = ["# bash completion for peerhub; made by packaging/reference.py", "_peerhub()", "{",
           "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev= path=peerhub word at", "\tCOMPREPLY=()",
           "\t[ \"$COMP_CWORD\" -gt 0 ] && prev=${COMP_WORDS[COMP_CWORD-1]}",
           "\tfor ((at = 1; at < COMP_CWORD; at++)); do", "\t\tword=${COMP_WORDS[at]}",
           "\t\tcase \"$path $word\" in"]
    for command in walk(tree):
        for below in command.commands:
            out.append("\t\t'%s') path='%s' ;;" % (below.name(), below.name()))
    out += ["\t\tesac", "\tdone", "\tcase \"$path $prev\" in"]
    for command in walk(tree):
        for option in command.options:
            if option.argument is None:
                continue
            if option.choices():
                action = "mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$cur\")" % " ".join(option.choices())
            elif "DIR" in option.argument:
                action = "compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\")"
            elif "FILE" in option.argument or "PATH" in option.argument:
                action = "compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")"
            else:
                action = ":"
            out.append("\t'%s --%s') %s; return ;;" % (command.name(), option.name, action))
    out += ["\tesac", "\tcase \"$path\" in"]
    for command in walk(tree):
        words = [b.words[-1] for b in command.commands] + ["--" + o.name for o in command.options]
        if "--help" not in words:
            words.append("--help")
        if command is tree:
            words.append("--version")
        out.append("\t'%s') word='%s' ;;" % (command.name(), " ".join(words)))
    out += ["\tesac", "\tmapfile -t COMPREPLY < <(compgen -W \"$word\" -- \"$cur\")",
            "\tif [ ${#COMPREPLY[@]} -eq 0 ] && [[ $cur != -* ]]; then",
            "\t\tcompopt -o filenames 2>/dev/null", "\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$cur\")", "\tfi", "}",
            "complete -F _peerhub peerhub", ""]
    return "\n".join(out)


def make_zsh(tree):
    out = ["#compdef peerhub", "# zsh completion for peerhub; made by packaging/reference.py", "",
           "local -a candidates", "local at path=peerhub", "for ((at = 2; at < CURRENT; at++)); do",
           "\tcase \"$path ${words[at]}\" in"]
    for command in walk(tree):
        for below in command.commands:
            out.append("\t'%s') path='%s' ;;" % (below.name(), below.name()))
    out += ["\tesac", "done", "case $path in"]
    for command in walk(tree):
        words = ["'%s:%s'" % (b.words[-1], first_sentence(b.line)) for b in command.commands]
        words += ["'--%s:%s'" % (o.name, first_sentence(" ".join(o.text))) for o in command.options]
        if not any(o.name == "help" for o in command.options):
            words.append("'--help:this text'")
        out.append("'%s') candidates=(%s) ;;" % (command.name(), " ".join(words)))
    out += ["esac", "_describe peerhub candidates", "_files", ""]
    return "\n".join(out)


def make_fish(tree):
    out = ["# fish completion for peerhub; made by packaging/reference.py"]
    for command in walk(tree):
        words = command.words[1:]
        seen = "; and ".join("__fish_seen_subcommand_from " + w for w in words) or "__fish_use_subcommand"
        for below in command.commands:
            names = " ".join(b.words[-1] for b in command.commands)
            unless = seen if not words else seen + "; and not __fish_seen_subcommand_from " + names
            out.append("complete -c peerhub -f -n '%s' -a %s -d '%s'" %
                       (unless, below.words[-1], first_sentence(below.line)))
        for option in command.options:
            takes = "" if option.argument is None else (
                " -xa '%s'" % " ".join(option.choices()) if option.choices() else " -r")
            out.append("complete -c peerhub -n '%s' -l %s%s -d '%s'" %
                       (seen, option.name, takes, first_sentence(" ".join(option.text))))
    return "\n".join(out) + "\n"


def make_completions(programs, out):
    tree = read_command(os.path.join(programs, "peerhub"), ["peerhub"], "", [COMMANDS_MAX])
    for name, text in (("peerhub", make_bash(tree)), ("_peerhub", make_zsh(tree)), ("peerhub.fish", make_fish(tree))):
        with open(os.path.join(out, name), "w", encoding="utf-8") as file:
            file.write(text)


def main():
    if len(sys.argv) == 5 and sys.argv[1] == "man":
        make_man(*sys.argv[2:])
    elif len(sys.argv) == 4 and sys.argv[1] == "complete":
        make_completions(*sys.argv[2:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
