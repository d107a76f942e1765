"""Read what is evaluated from files: folders of videos, and what lies beside a video."""
