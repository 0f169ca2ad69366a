from benchmarks.workloads.help_pages import pairs_of

PAGE = """<html><head><meta name="x"></head><body><div id="Index">Contents</div>
<h1 id="hd_1" dir="auto"><a name="x"></a>{title}</h1>
<p id="par_1" class="paragraph">{text} <span class="emph">{bold}</span>&nbsp;&amp;
  more.</p><p>No id</p><p id="par_2"></p>
<p id="{own}">Only here</p></body></html>"""


def test_elements_of_one_id_are_pairs_and_what_is_in_one_language_or_was_not_translated_is_none(tmp_path):
    for language, page in {
        "en-US": PAGE.format(title="Help", text="Press", bold="OK", own="par_3"),
        "de": PAGE.format(title="Help", text="Drücken Sie", bold="OK", own="par_4"),
    }.items():
        folder = tmp_path / language / "text"
        folder.mkdir(parents=True)
        (folder / "a.html").write_text(page)
    (tmp_path / "en-US" / "text" / "b.html").write_text(PAGE)
    assert list(pairs_of(tmp_path, source="en-US", target="de")) == [
        ("Press OK & more.", "Drücken Sie OK & more.", "text/a")
    ]
