"""The same API the way the seed describes it: FastAPI, a SQLModel session and a Redis connection for each request.

A write is validated and added to a Redis stream; one consumer applies the stream to SQLite, a message and a commit at a
time; a read looks into Redis, then into SQLite, and leaves what it found in Redis for a minute. That is all of it: no
authentication, no limits, no metrics, no position, no request id, no archive; an id is a counter in Redis, and a tweet
cannot be read before the consumer has come to it.

``python -m bench.baselines.seed_way read|write|consume|fill``, told by PORT, REDIS_URL, DATABASE and, to fill, TWEETS
and USERS.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from redis import Redis
from sqlalchemy import Engine
from sqlmodel import Field, Session, SQLModel, col, create_engine, select

STREAM: Final = "tweets"
GROUP: Final = "db_updater"
CACHE_SECONDS: Final = 60
ROWS_PER_COMMIT: Final = 10_000


class SeedUser(SQLModel, table=True):
    """An account."""

    id: int | None = Field(default=None, primary_key=True)
    username: str = Field(index=True, unique=True)
    followers_count: int = 0
    following_count: int = 0
    created_at: str


class SeedTweet(SQLModel, table=True):
    """A tweet."""

    id: int | None = Field(default=None, primary_key=True)
    content: str
    user_id: int = Field(foreign_key="seeduser.id", index=True)
    created_at: str = Field(index=True)
    likes: int = 0
    retweets: int = 0


class TweetCreate(BaseModel):
    """What is posted."""

    content: str = Field(max_length=280)
    user_id: int


def write_app(redis_url: str, _engine: Engine) -> FastAPI:
    """POST: into the stream."""
    app = FastAPI()

    @app.post("/tweets", status_code=201)
    def create_tweet(tweet: TweetCreate) -> dict[str, Any]:
        with Redis.from_url(redis_url) as redis:
            event = {"id": redis.incr("tweet_id"), "created_at": _now(), "likes": 0, "retweets": 0}
            event |= tweet.model_dump()
            redis.xadd(STREAM, {"data": json.dumps({"type": "create", **event})})
        return event

    @app.post("/tweets/{tweet_id}/like")
    def like_tweet(tweet_id: int) -> dict[str, str]:
        with Redis.from_url(redis_url) as redis:
            redis.xadd(STREAM, {"data": json.dumps({"type": "like", "id": tweet_id})})
        return {"status": "success"}

    return app


def read_app(redis_url: str, engine: Engine) -> FastAPI:
    """GET: from the cache, else from SQLite."""
    app = FastAPI()

    def cached(key: str, load: Callable[[Session], Any]) -> Any:
        with Redis.from_url(redis_url) as redis:
            found = redis.get(key)
            if isinstance(found, bytes):
                return json.loads(found)
            with Session(engine) as session:
                answer = load(session)
            redis.setex(key, CACHE_SECONDS, json.dumps(answer))
            return answer

    @app.get("/tweets/{tweet_id}")
    def get_tweet(tweet_id: int) -> Any:
        def load(session: Session) -> dict[str, Any]:
            tweet = session.get(SeedTweet, tweet_id)
            if tweet is None:
                raise HTTPException(404, "Tweet not found")
            user = session.get(SeedUser, tweet.user_id)
            return {**tweet.model_dump(), "user": user.model_dump() if user else None}

        return cached(f"tweet:{tweet_id}", load)

    @app.get("/users/{user_id}/tweets")
    def list_tweets(user_id: int, limit: int = 10, offset: int = 0) -> Any:
        def load(session: Session) -> list[dict[str, Any]]:
            user = session.get(SeedUser, user_id)
            if user is None:
                raise HTTPException(404, "User not found")
            newest = select(SeedTweet).where(SeedTweet.user_id == user_id).order_by(col(SeedTweet.created_at).desc())
            author = user.model_dump()
            return [
                {**tweet.model_dump(), "user": author} for tweet in session.exec(newest.offset(offset).limit(limit))
            ]

        return cached(f"user_tweets:{user_id}:{limit}:{offset}", load)

    return app


def consume(redis_url: str, engine: Engine) -> None:
    """Apply the stream for ever, a message and a commit at a time."""
    with Redis.from_url(redis_url) as redis:
        redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        while True:
            answer: Any = redis.xreadgroup(GROUP, "consumer", {STREAM: ">"}, count=10, block=1000)
            for _, messages in answer or ():
                for message_id, fields in messages:
                    event = json.loads(fields[b"data"])
                    with Session(engine) as session:
                        if event.pop("type") == "create":
                            session.add(SeedTweet(**event))
                        elif (tweet := session.get(SeedTweet, event["id"])) is not None:
                            tweet.likes += 1
                        session.commit()
                    redis.delete(f"tweet:{event['id']}")
                    redis.xack(STREAM, GROUP, message_id)


def fill(redis_url: str, engine: Engine) -> None:
    """Rows to read: tweet ids and user ids from 1."""
    tweets, users = int(os.environ["TWEETS"]), int(os.environ["USERS"])
    chance = random.Random(1)
    SQLModel.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([SeedUser(username=f"user_{number}", created_at=_now()) for number in range(1, users + 1)])
        session.commit()
        for first in range(1, tweets + 1, ROWS_PER_COMMIT):
            for number in range(first, min(first + ROWS_PER_COMMIT, tweets + 1)):
                text = f"a tweet of about eighty characters, as most of them are, with a number: {number}"
                session.add(SeedTweet(content=text, user_id=chance.randrange(users) + 1, created_at=_now()))
            session.commit()
            session.expunge_all()
    with Redis.from_url(redis_url) as redis:
        redis.set("tweet_id", tweets)


def _now() -> str:
    return datetime.now(UTC).isoformat()


if __name__ == "__main__":
    url = os.environ["REDIS_URL"]
    database = create_engine(f"sqlite:///{os.environ['DATABASE']}", connect_args={"check_same_thread": False})
    match sys.argv[1]:
        case "read" | "write" as service:
            make = read_app if service == "read" else write_app
            uvicorn.run(make(url, database), host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
        case "consume":
            consume(url, database)
        case "fill":
            fill(url, database)
