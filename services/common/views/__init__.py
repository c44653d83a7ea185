"""The views: read-only query functions over the public tables, free of HTTP."""

from services.common.shapes import Answer, Existing, HomeTweetView, Page, ProfileView, TweetView, UserView, Window
from services.common.views.existence import existing
from services.common.views.home_timeline import HomePage, home
from services.common.views.reactions import likers, retweeters
from services.common.views.reader import Reader
from services.common.views.tweets import replies, tweet, tweets_by_author
from services.common.views.users import followers, following, profile, profile_by_username, profile_of, user

__all__ = [
    "Answer",
    "Existing",
    "HomePage",
    "HomeTweetView",
    "Page",
    "ProfileView",
    "Reader",
    "TweetView",
    "UserView",
    "Window",
    "existing",
    "followers",
    "following",
    "home",
    "likers",
    "profile",
    "profile_by_username",
    "profile_of",
    "replies",
    "retweeters",
    "tweet",
    "tweets_by_author",
    "user",
]
