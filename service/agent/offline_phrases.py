"""What the offline writer can say: sentences per iteration, some only for certain topics."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from service.domain.story import (
    LOADING_STATES,
    OPEN_QUESTIONS,
    OUTCOME_CRITERIA,
    PERFORMANCE,
    SECURITY,
    SYSTEM_CRITERIA,
    TELEMETRY,
    USER_VISIBLE,
)

TOPICS: Mapping[str, re.Pattern[str]] = {
    topic: re.compile(rf"\b(?:{words})", re.IGNORECASE)
    for topic, words in {
        "sign-in": r"log[ -]?in|sign[ -]?in|password|credentials",
        "payment": r"pay(?:s|ing|ments?)?\b|checkout|purchas|buy(?:s|ing)?\b|invoice",
        "search": r"search|find(?:s|ing)?\b|filter|browse",
        "upload": r"upload|attach|photos?\b|images?\b|documents?\b",
        "message": r"e-?mails?\b|notif|messages?\b|invit|remind",
        "removal": r"delet|remov|cancel",
        "report": r"report|dashboard|export|chart|statistic|overview",
        "entry": r"regist|sign[ -]?up|enter(?:s|ing)?\b|forms?\b|profile|edit|creat|adds?\b",
    }.items()
}


class Phrase(NamedTuple):
    """A sentence for one list; without a topic it fits every story."""

    path: str
    text: str
    topic: str | None = None


PHRASES: Mapping[str, tuple[Phrase, ...]] = {
    "user-roles": (
        Phrase(
            OUTCOME_CRITERIA,
            "Given a person without an account, when they try to sign in, then they are not let in"
            " and are told how people get access.",
            "sign-in",
        ),
        Phrase(
            OUTCOME_CRITERIA,
            "Given {a_role}, when they {action}, then they can tell from what is shown that it"
            " has worked.",
        ),
        Phrase(
            OUTCOME_CRITERIA,
            "Given someone who is not entitled to it, when they try to {action}, then nothing"
            " changes and they learn that it is not open to them.",
        ),
        Phrase(OPEN_QUESTIONS, "Does anyone besides the {role} need to know of it, or approve it?"),
    ),
    "interactive-elements": (
        Phrase(
            USER_VISIBLE,
            "While nothing matches a search, the {role} sees that it was carried out and how to"
            " change it.",
            "search",
        ),
        Phrase(
            USER_VISIBLE,
            "Before something is removed for good, the {role} is asked and can still go back.",
            "removal",
        ),
        Phrase(USER_VISIBLE, "The {role} finds one clearly named way to {action}, and a way out."),
        Phrase(
            OUTCOME_CRITERIA,
            "Given {a_role} who has just set out to {action}, when they trigger it a second time"
            " before the first has ended, then it happens once only.",
        ),
        Phrase(
            OUTCOME_CRITERIA,
            "Given an attempt to {action} that has failed, when the {role} is told so, then what"
            " was entered is still there and they can try again.",
        ),
    ),
    "validation": (
        Phrase(
            OUTCOME_CRITERIA,
            "Given credentials that do not match, when the {role} submits them, then the message"
            " does not reveal whether the account or the secret was wrong.",
            "sign-in",
        ),
        Phrase(
            OUTCOME_CRITERIA,
            "Given a file that is not accepted, when the {role} chooses it, then they learn why"
            " before anything is sent.",
            "upload",
        ),
        Phrase(
            OUTCOME_CRITERIA,
            "Given {a_role} who wants to {action}, when something required is missing on"
            " submitting, then the message names it and everything else entered is kept.",
        ),
        Phrase(
            SYSTEM_CRITERIA,
            "Given a request to {action} that breaks a rule, when it reaches the system by any"
            " way, then it is refused and nothing of it is stored.",
        ),
        Phrase(OPEN_QUESTIONS, "Which entries are required to {action}, and which are optional?"),
    ),
    "accessibility": (
        Phrase(
            OUTCOME_CRITERIA,
            "Given new search results, when they appear, then their number is announced without"
            " moving the focus.",
            "search",
        ),
        Phrase(
            OUTCOME_CRITERIA,
            "Given {a_role} who uses a keyboard only, when they {action}, then every step can be"
            " reached in a sensible order and the focus is always visible.",
        ),
        Phrase(
            OUTCOME_CRITERIA,
            "Given {a_role} who uses a screen reader, when their attempt to {action} fails, then"
            " the reason is announced and tied to the entry it concerns.",
        ),
        Phrase(
            SYSTEM_CRITERIA,
            "Given any state shown on the way to {action}, when it is shown by colour, then the"
            " same is there as text.",
        ),
    ),
    "performance": (
        Phrase(
            PERFORMANCE,
            "The amount of results may grow large; show the first ones without waiting for all.",
            "search",
        ),
        Phrase(
            LOADING_STATES,
            "During an upload the {role} sees how far it is and can stop it.",
            "upload",
        ),
        Phrase(
            LOADING_STATES,
            "From starting to {action} until the outcome is known, something shows that it is"
            " under way.",
        ),
        Phrase(
            SYSTEM_CRITERIA,
            "Given a connection that breaks while the {role} is about to {action}, when it is"
            " back, then trying again does not do it twice.",
        ),
        Phrase(OPEN_QUESTIONS, "How many people are expected to {action} at the same time?"),
    ),
    "security": (
        Phrase(
            SYSTEM_CRITERIA,
            "Given repeated failed attempts to sign in, when they go on, then further ones are"
            " slowed down and can be seen by those who run the system.",
            "sign-in",
        ),
        Phrase(
            SYSTEM_CRITERIA,
            "Given a payment that is submitted twice, when both arrive, then the {role} is"
            " charged once.",
            "payment",
        ),
        Phrase(
            SECURITY,
            "Treat uploaded content as hostile: never run it, and never serve it as part of a"
            " page of one's own.",
            "upload",
        ),
        Phrase(
            SYSTEM_CRITERIA,
            "Given a request to {action}, when it comes from someone who may not, then it is"
            " refused by the system itself and the answer does not reveal what exists.",
        ),
        Phrase(
            SYSTEM_CRITERIA,
            "Given a session that has ended, when the {role} comes back to {action}, then nothing"
            " of theirs was left for anyone else to see or to use.",
        ),
        Phrase(SECURITY, "Keep what the {role} enters out of logs and out of page addresses."),
    ),
    "responsive-web": (
        Phrase(
            USER_VISIBLE,
            "In a narrow window the {role} sees the most important part of each row first and"
            " can open the rest.",
            "report",
        ),
        Phrase(
            USER_VISIBLE,
            "On a phone as in a wide window, the {role} can {action} without scrolling sideways.",
        ),
        Phrase(
            SYSTEM_CRITERIA,
            "Given entries made on the way to {action}, when the window is resized or the device"
            " turned, then they are all still there.",
        ),
    ),
    "responsive-native": (
        Phrase(
            USER_VISIBLE,
            "Access to photos or files is asked for when it is first needed, with the reason.",
            "upload",
        ),
        Phrase(
            USER_VISIBLE,
            "Without a connection the {role} learns whether they can still {action}, and what"
            " will be sent later.",
        ),
        Phrase(
            SYSTEM_CRITERIA,
            "Given {a_role} who is interrupted while about to {action}, when they come back, then"
            " they go on where they were.",
        ),
        Phrase(OPEN_QUESTIONS, "Must it be possible to {action} without a connection?"),
    ),
    "language-support": (
        Phrase(
            OUTCOME_CRITERIA,
            "Given entries in any script, when the {role} submits them, then they are stored and"
            " shown unharmed.",
            "entry",
        ),
        Phrase(
            OUTCOME_CRITERIA,
            "Given a text that has no translation, when the {role} meets it, then it is shown in"
            " the default language and never as an empty place.",
        ),
        Phrase(OPEN_QUESTIONS, "In which languages should the {role} be able to {action}?"),
    ),
    "locale-formatting": (
        Phrase(
            OUTCOME_CRITERIA,
            "Given an amount of money, when it is shown, then its currency is shown with it.",
            "payment",
        ),
        Phrase(
            OUTCOME_CRITERIA,
            "Given dates or numbers shown to the {role}, when they are read, then they have the"
            " form that is customary for that person and cannot be mistaken.",
        ),
    ),
    "cultural-appropriateness": (
        Phrase(
            OUTCOME_CRITERIA,
            "Given a person with a single name, when they enter it, then it is accepted.",
            "entry",
        ),
        Phrase(
            OUTCOME_CRITERIA,
            "Given messages on the way to {action}, when they are read in another culture, then"
            " no meaning hangs on a colour, a gesture or an idiom alone.",
        ),
    ),
    "analytics": (
        Phrase(
            TELEMETRY,
            "Record that {a_role} set out to {action}, whether it worked, and at which step it"
            " was given up; never what was entered.",
        ),
        Phrase(
            SYSTEM_CRITERIA,
            "Given an attempt to {action}, when it is measured, then it is recorded once and the"
            " attempt is neither delayed nor broken by it.",
        ),
        Phrase(OPEN_QUESTIONS, "How will the team see that {benefit} has come true?"),
    ),
}
