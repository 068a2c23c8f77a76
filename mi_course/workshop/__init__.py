"""A live board for a room: which exercises are passed, who has been stuck longest, and on which named mistake.

The server (`mi-course workshop serve`) needs the extra `workshop`. Learners need nothing more than the course:
`mi_course.join("CODE@ADDRESS")`. docs/workshop.md is for leads, docs/workshop-privacy.md says what is stored.
"""
