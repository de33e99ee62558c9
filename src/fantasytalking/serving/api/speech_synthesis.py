"""`GET /v1/voices` and `POST /v1/speech`: texts are spoken, for whoever has no recording."""

from __future__ import annotations

from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from fantasytalking.errors import AudioError, MissingDependencyError, SettingsError
from fantasytalking.serving.api.refusals import error_body
from fantasytalking.serving.api.service import service_of
from fantasytalking.serving.text_to_speech import FASTEST, MOST_CHARACTERS, SLOWEST, Voice, speak, voices

__all__ = ["speech_routes"]


class SpeechRequest(BaseModel):
    """A text to speak."""

    text: Annotated[str, Field(description="What is said.", max_length=MOST_CHARACTERS)]
    voice: Annotated[
        str | None, Field(description="Id of a voice; nothing takes the first of GET /v1/voices.", max_length=100)
    ] = None
    speed: Annotated[float, Field(description="1 is the voice's own pace.", ge=SLOWEST, le=FASTEST)] = 1.0


class VoiceList(BaseModel):
    """The voices of the server."""

    object: Literal["list"] = "list"
    data: tuple[Voice, ...]


def speech_routes() -> APIRouter:
    """The two routes."""
    routes = APIRouter(prefix="/v1", tags=["speech"])

    @routes.get("/voices", summary="Voices that a text can be spoken by")
    def list_voices() -> VoiceList:
        return VoiceList(data=voices())

    @routes.post(
        "/speech",
        summary="Speak a text",
        response_class=Response,
        responses={
            200: {"content": {"audio/wav": {}}, "description": "A WAV file"},
            400: {"description": "The body is no JSON"},
            422: {"description": "A text that cannot be spoken, or no such voice"},
            501: {"description": "The server has no voice"},
        },
    )
    async def create_speech(request: Request, given: SpeechRequest) -> Response:
        try:
            heavy = service_of(request).desk.heavy
            sound = await to_thread.run_sync(speak, given.text, given.voice, given.speed, limiter=heavy)
        except MissingDependencyError as error:
            return JSONResponse(error_body("no_voice", str(error)), 501)
        except AudioError as error:
            return JSONResponse(error_body("invalid_text", str(error), "text"), 422)
        except SettingsError as error:
            return JSONResponse(error_body("invalid_voice", str(error), "voice"), 422)
        return Response(sound, media_type="audio/wav")

    return routes
