"""What staff and commands do that changes no candidate: sign-ins, exports, changes of users."""
