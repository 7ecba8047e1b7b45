import os
from pathlib import Path

import pytest

from cyclegan_edge.errors import ConfigError, DataError, SinkError, SourceError
from cyclegan_edge.worklist import Job, Share, parse_share, plan


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def results(jobs: list[Job], inputs: Path, out: Path) -> dict[str, str]:
    return {str(job.source.relative_to(inputs)): str(job.target.relative_to(out)) for job in jobs}


def test_results_overwrite_neither_inputs_nor_each_other(tmp_path: Path) -> None:
    one, two = touch(tmp_path / "one", "a.png", "a.mov", "a.mp4"), touch(tmp_path / "two", "a.png")
    out = touch(tmp_path / "out", "a.png")

    jobs = list(plan([one, two, one / "a.png", out / "a.png"], out))

    assert results(jobs, tmp_path, out) == {
        "one/a.mov": "a.mp4",
        "one/a.mp4": "a-2.mp4",
        "one/a.png": "a-2.png",
        "two/a.png": "a-3.png",
        "out/a.png": "a-4.png",
    }


def test_only_recursion_goes_into_folders_and_keeps_their_tree(tmp_path: Path) -> None:
    photos = touch(
        tmp_path / "photos", "a.png", "trip/a.png", "trip/day/b.jpg", ".hidden/c.png", "trip/.d.png", "e.txt"
    )
    out = touch(photos / "out", "a.png")

    flat, deep = list(plan([photos], out)), list(plan([photos], out, recursive=True))

    assert results(flat, photos, out) == {"a.png": "a.png"}
    assert results(deep, photos, out) == {
        "a.png": "a.png",
        "trip/a.png": "trip/a.png",
        "trip/day/b.jpg": "trip/day/b.jpg",
    }


def test_results_have_a_suffix_that_is_written_or_the_one_asked_for(tmp_path: Path) -> None:
    photos, skipped = touch(tmp_path / "photos", "a.GIF", "b.png", "c.mov", "d.heic", "e", ".f"), list[str]()

    as_they_are = list(plan([photos], tmp_path / "out", on_skip=skipped.append))
    as_jpeg = list(plan([photos], tmp_path / "out", suffix=".jpg"))

    assert [job.target.name for job in as_they_are] == ["a.png", "b.png", "c.mp4"]
    assert [job.target.name for job in as_jpeg] == ["a.jpg", "b.jpg", "c.mp4"]
    assert skipped == ["d.heic", "e"]


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    photos = touch(tmp_path / "photos", "a.png")
    (photos / "again").symlink_to(photos)

    assert len(list(plan([photos], tmp_path / "out", recursive=True))) == 1


def test_shares_are_disjoint_whole_and_give_the_same_names(tmp_path: Path) -> None:
    photos = touch(
        tmp_path / "photos", *(f"{number}.png" for number in range(60)), *(f"v{number}.mov" for number in range(9))
    )
    touch(photos, *(f"v{number}.mp4" for number in range(9)))
    out = tmp_path / "out"

    everything = list(plan([photos], out))
    shares = [list(plan([photos], out, share=Share(number, 4))) for number in range(1, 5)]

    assert sorted(job for share in shares for job in share) == sorted(everything)
    assert all(8 < len(share) < 32 for share in shares)


def test_a_share_does_not_change_with_what_is_done_or_where_the_disk_is_mounted(tmp_path: Path) -> None:
    here = touch(tmp_path / "here" / "photos", *(f"{number}.png" for number in range(20)))
    there = touch(tmp_path / "there" / "mnt" / "photos", *(f"{number}.png" for number in range(20)))
    touch(tmp_path / "there" / "out", *(f"{number}.png" for number in range(7)))

    first = list(plan([here], tmp_path / "here" / "out", share=Share(2, 3)))
    second = list(plan([there], tmp_path / "there" / "out", share=Share(2, 3)))

    assert [job.target.name for job in first] == [job.target.name for job in second]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "1/4/2", "-1/4", "1/4 "])
def test_a_malformed_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected I/N with I from 1 to N; try 1/4"):
        parse_share(text)


def test_a_share_is_read_as_it_is_written() -> None:
    assert parse_share("2/8") == Share(2, 8)
    assert parse_share(None) == Share(1, 1)


def test_missing_and_empty_inputs_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match="is not there; name pictures, videos or folders"):
        list(plan([tmp_path / "none.png"], out))
    with pytest.raises(DataError, match="holds no picture and no video; name a folder that does, or add --recursive"):
        list(plan([tmp_path], out))


def test_a_folder_that_is_also_for_the_results_is_refused(tmp_path: Path) -> None:
    photos = touch(tmp_path / "photos", "a.png")

    with pytest.raises(DataError, match="is both an input and the folder for the results"):
        list(plan([photos], photos.parent / "photos"))


def test_a_job_is_done_when_its_result_is_of_this_version_of_the_source(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a.png")
    job = Job(str(tmp_path / "a.png"), str(tmp_path / "out" / "a.png"))
    os.utime(job.source, (1_000_000, 1_000_000))
    assert not job.is_done()

    job.mark_done(job.version())
    assert job.is_done()

    os.utime(job.source, (1_000_060, 1_000_060))
    assert not job.is_done()


def test_a_source_replaced_within_the_same_second_is_not_done(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a.png")
    job = Job(str(tmp_path / "a.png"), str(tmp_path / "out" / "a.png"))
    second = 1_000_000 * 10**9
    os.utime(job.source, ns=(second, second + 5))
    job.mark_done(job.version())

    os.utime(job.source, ns=(second, second + 6))
    assert not job.is_done()

    os.utime(job.source, ns=(second, second + 5))
    assert job.is_done()

    job.source.write_text("of another size")
    os.utime(job.source, ns=(second, second + 5))
    assert not job.is_done()


@pytest.mark.parametrize("step", [100, 10_000_000, 1_000_000_000, 2_000_000_000])
def test_a_job_is_done_where_the_disk_keeps_coarser_times(step: int, tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a.png")
    job = Job(str(tmp_path / "a.png"), str(tmp_path / "out" / "a.png"))

    job.mark_done(job.version() // step * step)

    assert job.is_done()


def test_a_file_that_went_away_is_a_sentence(tmp_path: Path) -> None:
    job = Job(str(tmp_path / "a.png"), str(tmp_path / "b.png"))

    assert not job.is_done()
    with pytest.raises(SourceError, match=r"a\.png cannot be read \(No such file or directory\)"):
        job.version()
    with pytest.raises(SinkError, match=r"b\.png cannot be marked as done"):
        job.mark_done(0)
