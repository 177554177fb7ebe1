"""The hosting company: folders and files, with a log of what was asked of it."""

from pathlib import Path
from shutil import rmtree

ROOT = Path("hosting")


def log(*words):
    ROOT.mkdir(exist_ok=True)
    with (ROOT / "log.txt").open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def create_database(shop):
    log("create database", shop)
    (ROOT / f"{shop}.db").mkdir(exist_ok=True)
    return f"{shop}.db"


def drop_database(database):
    log("drop database", database)
    rmtree(ROOT / database, ignore_errors=True)


def create_user(database, user):
    log("create user", user)
    (ROOT / database / user).touch()
    return user


def delete_user(database, user):
    log("delete user", user)
    (ROOT / database / user).unlink(missing_ok=True)


def publish(shop, database, plan):
    log("publish", shop)
    if plan == "unpaid":
        raise PermissionError(f"{shop} has not paid")
    (ROOT / f"{shop}.site").write_text(database)
    return f"{shop}.site"


def unpublish(site):
    log("unpublish", site)
    (ROOT / site).unlink(missing_ok=True)


def announce(site):
    log("announce", site)
    if "spam" in site:
        raise ValueError(f"{site} is on a list")
