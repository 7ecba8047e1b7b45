"""An RTSP server of glass.py's pictures, 640x360 at 25 fps in H.264, for the system's Python: `glass_rtsp.py PORT`.

Needs Debian's gir1.2-gst-rtsp-server-1.0, python3-gi and gstreamer1.0-plugins-*. Writes "ready" once it listens.
"""

import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

WIDTH, HEIGHT, FPS, BITS = 640, 360, 25, 32
Gst.init(None)
GREY = b"".join(
    bytes(((40 * (x // 40 + y // 40) + 60) % 200) for x in range(WIDTH)) for y in range(HEIGHT - HEIGHT // 4)
)


def configure(_: object, media: object) -> None:
    """Push a picture with its time every 1 / FPS s."""
    source = media.get_element().get_child_by_name("source")
    began, count = time.monotonic(), 0

    def push() -> bool:
        nonlocal count
        milliseconds = time.time_ns() // 1_000_000
        row = b"".join(
            (b"\xeb" if milliseconds >> bit & 1 else b"\x10") * (WIDTH // BITS) for bit in reversed(range(BITS))
        )
        buffer = Gst.Buffer.new_wrapped(row * (HEIGHT // 4) + GREY)
        buffer.pts = count * Gst.SECOND // FPS
        buffer.duration = Gst.SECOND // FPS
        count += 1
        if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
            return False
        GLib.timeout_add(max(1, round(1000 * (began + count / FPS - time.monotonic()))), push)
        return False

    GLib.timeout_add(1, push)


server = GstRtspServer.RTSPServer()
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( appsrc name=source is-live=true do-timestamp=true format=time"
    f" caps=video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate={FPS}/1 ! videoconvert"
    f" ! x264enc tune=zerolatency key-int-max=25 speed-preset=ultrafast ! rtph264pay name=pay0 pt=96 )"
)
factory.set_shared(True)
factory.connect("media-configure", configure)
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
sys.stdout.write("ready\n")
sys.stdout.flush()
GLib.MainLoop().run()
